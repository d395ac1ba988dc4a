//! The log, the outbox and the read tables on a real database.
#![cfg(feature = "testing")]

mod acknowledged;
mod claims;
mod conflicts;
mod custody;
mod debts;
mod grants;
mod history;
mod ingest;
mod notifications;
mod order;
mod outbox;
mod pull;
mod registers;
mod replay;
mod sales;
mod schema;
mod shop;
mod stock;
mod story;
mod tables;
mod tills;
mod variants;
mod verify;
