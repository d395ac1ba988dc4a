//! Whole nodes over HTTP and a real database; one topic a module.

mod day;
mod support;
