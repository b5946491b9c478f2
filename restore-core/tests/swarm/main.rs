//! What is tried on Docker engines of the tests' own: the swarm platform piece by piece, the

//! runbook's stack on it, a swarm of several nodes, and Compose projects without a swarm.

mod compose;
mod swarm;
mod swarm_hosting;
mod swarm_nodes;
