//! The examples are what they say: each piece keeps its contract, each program does its work.

mod pieces;
mod programs;
