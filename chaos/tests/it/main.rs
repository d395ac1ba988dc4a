//! The faulty network before a real HTTP server, and servers of others; one topic a module.

mod faulty_network;
mod lossy;
mod redis;
mod upstream;
