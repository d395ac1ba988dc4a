//! What looks at Velox node from outside: faults for it to bear, clusters of nodes, tills, and the load generator.
//!
//! - [`faulty_network`]: links between nodes that fail on demand.
//! - [`cluster`]: `velox serve` processes, wired as peers through such links, killed, paused and started again.
//! - [`till`]: the events of a shop's day, from a seed.
//! - [`load`]: the benchmark of one node.
//! - [`federate`]: the benchmark of two nodes that are each other's peers.
//!
//! Never here: anything of the node's own crates but the domain. A node is a process behind HTTP; only the
//! benchmarks speak SQL: the floor, what they look at, and logs that are too long to be pushed.

pub mod cluster;
mod database;
pub mod faulty_network;
pub mod federate;
mod goals;
mod http;
pub mod load;
mod measure;
pub mod till;
