//! Whole nodes over HTTP and a real database; one topic a module.

mod cli;
mod database;
mod day;
mod groups;
mod inputs;
mod kill;
mod load;
mod operator;
mod outage;
mod pods;
mod process;
mod proxy;
mod pull;
mod push;
mod retries;
mod routes;
mod story;
mod supervision;
mod support;
