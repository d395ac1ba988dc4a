//! The domain of Velox node, pure: what an event is, what it means beside others, and the shapes of the API.
//!
//! Never here: I/O, async, a clock read, a random id. Time comes in as an argument.
//!
//! To add an event type: 1. a line in [`catalogue`], 2. its fields in [`payload`], 3. its rows in
//! [`standing`] (linked kinds) or [`crdt::register`] (fields of an entity), 4. a case in `store`'s projections.

pub mod api;
pub mod canonical;
pub mod catalogue;
pub mod clock;
pub mod conflict;
pub mod crdt;
pub mod decimal;
pub mod event;
pub mod json;
pub mod payload;
pub mod resolution;
pub mod standing;
pub mod time;

/// The pseudo-device under which every v1 node writes: no collision or skew alarms for it.
pub const V1_NODE_DEVICE: &str = "00000000-0000-0000-0000-000000000001";
