//! What looks at Velox node from outside: faults for it to bear, clusters of nodes, tills, and the load generator.
//!
//! - [`faulty_network`]: links between nodes that fail on demand.
//! - [`cluster`]: `velox serve` processes, wired as peers through such links, killed, paused and started again.
//! - [`till`]: the events of a shop's day, from a seed.
//! - [`scenario`]: the suites, each a story with steps, faults and an end that is checked.
//! - [`client`], [`nemesis`], [`history`], [`checker`]: in Jepsen's words, what the suites are made of.
//! - [`load`]: the benchmark of one node.
//! - [`federate`]: the benchmark of two nodes that are each other's peers.
//!
//! Never here: anything of the node's own crates but the domain. A node is a process behind HTTP. SQL is spoken by the
//! benchmarks (the floor, what they look at, logs that are too long to be pushed) and by the suites where no program
//! could do the damage: rows that are removed, a table that is locked.

pub mod checker;
pub mod client;
pub mod cluster;
mod database;
pub mod faulty_network;
pub mod federate;
mod goals;
pub mod history;
mod http;
pub mod load;
mod measure;
pub mod nemesis;
pub mod observed;
pub mod scenario;
pub mod till;
