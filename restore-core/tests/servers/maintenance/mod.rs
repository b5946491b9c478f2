//! Maintenance mode with a real nginx.

mod obstacles;
mod shown;
mod web;
