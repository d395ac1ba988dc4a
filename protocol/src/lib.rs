//! The domain of Velox node, pure: what an event is, what it means beside others, and the shapes of the API.
//!
//! Never here: I/O, async, a clock read, a random id. Time comes in as an argument.
//!
//! To add an event type: 1. a line in [`catalogue`], 2. its fields in [`payload`], 3. its rows in
//! [`standing`] (linked kinds) or [`crdt::register`] (fields of an entity), 4. the same rows in [`fold`], the model,
//! from the rule's words and not from step 3, 5. a history in `vectors/histories.txt`, its result thought out by
//! hand, 6. a case in `store`'s projections.

pub mod api;
pub mod canonical;
pub mod catalogue;
pub mod clock;
pub mod conflict;
pub mod crdt;
pub mod decimal;
pub mod event;
pub mod federation;
pub mod fiscal;
pub mod fold;
pub mod home;
pub mod json;
pub mod payload;
pub mod reconcile;
pub mod reconciled;
pub mod relayed;
pub mod resolution;
pub mod signature;
pub mod standing;
pub mod stock_policy;
#[cfg(feature = "testing")]
pub mod story;
pub mod time;
pub mod triage;
pub mod v1;

/// The pseudo-device under which every v1 node writes: no collision or skew alarms for it.
pub const V1_NODE_DEVICE: &str = "00000000-0000-0000-0000-000000000001";
