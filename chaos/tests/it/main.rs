//! The faulty network before a real HTTP server, servers of others, and the chaos suites as an operator runs them; one
//! topic a module.

mod faulty_network;
mod lossy;
mod redis;
mod suites;
mod upstream;
