//! What is tried on Docker engines of the tests' own: the swarm platform piece by piece, the

//! runbook's stack on it, and a swarm of several nodes.

mod swarm;
mod swarm_hosting;
mod swarm_nodes;
