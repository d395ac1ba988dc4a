//! A Velox node: configuration, telemetry, the HTTP surface and the command line.
//!
//! Never here: SQL (see `velox_store`), decisions about events (see `velox_protocol`), actors.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod federation;
pub mod http;
pub mod lifecycle;
pub mod replay;
pub mod telemetry;
pub mod triage;
