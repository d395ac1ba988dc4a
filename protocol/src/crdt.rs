//! Data types that converge, whatever the order and the number of times their updates arrive.

pub mod register;
