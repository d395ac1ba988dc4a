//! What looks at Velox node from outside: faults for it to bear, clusters of nodes, tills, and the load generator.
//!
//! - [`faulty_network`]: links between nodes that fail on demand.
//! - [`cluster`]: `velox serve` processes, wired as peers through such links, killed, paused and started again.
//! - [`till`]: the events of a shop's day, from a seed.
//! - [`load`]: the benchmark.
//!
//! Never here: anything of the node's own crates but the domain. A node is a process behind HTTP; only the
//! floor of the benchmark speaks SQL.

pub mod cluster;
mod database;
pub mod faulty_network;
mod http;
pub mod load;
mod measure;
pub mod till;
