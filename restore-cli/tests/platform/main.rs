//! The program on whole platforms, local and on Docker Swarm, and how much memory it takes.

mod agent;
mod compose;
mod hostile;
mod memory;
mod other_tools;
mod recovery;
mod whole;
