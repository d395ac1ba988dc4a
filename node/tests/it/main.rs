//! Whole nodes over HTTP and a real database; one topic a module.

mod day;
mod inputs;
mod kill;
mod pods;
mod pull;
mod push;
mod routes;
mod supervision;
mod support;
