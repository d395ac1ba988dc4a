//! The log, the outbox and the read tables on a real database.
#![cfg(feature = "testing")]

mod acknowledged;
mod audit;
mod backup;
mod busy;
mod claims;
mod conflicts;
mod custody;
mod debts;
mod delivery;
mod digests;
mod fences;
mod fiscal;
mod grants;
mod histories;
mod history;
mod homes;
mod ingest;
mod leases;
mod notifications;
mod order;
mod outbox;
mod outbox_ops;
mod peers_seen;
mod pull;
mod reached;
mod rebuild;
mod reconcile;
mod redis_server;
mod registers;
mod relay_queue;
mod replay;
mod sales;
mod schema;
mod shop;
mod stock;
mod tills;
mod variants;
mod verify;

use velox_protocol::story;
