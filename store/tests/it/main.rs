//! The log, the outbox and the read tables on a real database.
#![cfg(feature = "testing")]

mod claims;
mod debts;
mod forms;
mod grants;
mod histories;
mod ingest;
mod outbox;
mod pull;
mod registers;
mod replay;
mod sales;
mod schema;
mod shop;
mod stock;
mod tills;
mod verify;

use velox_protocol::story;
