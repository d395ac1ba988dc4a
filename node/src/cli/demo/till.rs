//! A till of the demo: its counters, its way of writing, and the events it has queued. v1's tills send the
//! payload twice with a hash for critical types; one till is newer and sends texts for times and amounts.

use super::goods::GOODS;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::canonical::{self, KeyOrder};
use velox_protocol::catalogue;
use velox_protocol::json::Json;

/// How a till writes times and amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// v1's JavaScript: milliseconds, and numbers as the arithmetic left them.
    Numbers,
    /// RFC 3339, and decimals as texts.
    Texts,
}

/// An open cash session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: Uuid,
    /// What should be in it, by kind of money.
    pub(super) drawer: BTreeMap<&'static str, f64>,
}

/// An event in a till's queue.
#[derive(Debug)]
pub(super) struct Queued {
    /// The till's time, ms since 1970.
    pub(super) at: i64,
    /// As it is pushed.
    pub(super) event: Value,
}

/// A till.
#[derive(Debug)]
pub(super) struct Till {
    pub(super) name: &'static str,
    pub(super) device_id: Uuid,
    pub(super) user_id: Uuid,
    dialect: Dialect,
    /// Two counters that are not the same, as in a till that got its vector clock late.
    seq: i64,
    clock: i64,
    /// Prices as this till knows them, in dollars.
    pub(super) prices: Vec<f64>,
    pub(super) session: Option<Session>,
    pub(super) queue: Vec<Queued>,
}

/// A random id.
pub(super) fn id(random: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(random.random()).into_uuid()
}

impl Till {
    pub(super) fn new(name: &'static str, dialect: Dialect, random: &mut StdRng) -> Self {
        Till {
            name,
            device_id: id(random),
            user_id: id(random),
            dialect,
            seq: random.random_range(100..9_000),
            clock: random.random_range(1..90),
            prices: GOODS.iter().map(|good| good.usd).collect(),
            session: None,
            queue: Vec::new(),
        }
    }

    /// A time in a payload or envelope.
    pub(super) fn time(&self, ms: i64) -> Value {
        match (self.dialect, chrono::DateTime::from_timestamp_millis(ms)) {
            (Dialect::Texts, Some(at)) => json!(at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
            _ => json!(ms),
        }
    }

    /// An amount of money.
    pub(super) fn amount(&self, amount: f64) -> Value {
        match self.dialect {
            Dialect::Numbers => json!(amount),
            Dialect::Texts => json!(format!("{amount:.2}")),
        }
    }

    /// The price of one piece or kilogram.
    pub(super) fn price(&self, price: f64) -> Value {
        match self.dialect {
            Dialect::Numbers => json!(price),
            Dialect::Texts => json!(format!("{price:.4}")),
        }
    }

    /// The session in use, as v1 writes none.
    pub(super) fn session_id(&self) -> Value {
        self.session.as_ref().map_or(json!(""), |session| json!(session.id))
    }

    /// Queues an event, never before the till's last one; its envelope may be changed by the caller.
    pub(super) fn record(
        &mut self,
        at: i64,
        event_type: &str,
        payload: Value,
        random: &mut StdRng,
    ) -> &mut Value {
        let at = self.queue.last().map_or(at, |last| at.max(last.at + 1));
        self.seq += 1;
        self.clock += 1;
        let mut event = json!({
            "event_id": id(random),
            "seq": self.seq,
            "type": event_type,
            "version": 1,
            "created_at": self.time(at),
            "actor": { "user_id": self.user_id, "role": "cashier" },
            "vector_clock": { self.device_id.to_string(): self.clock },
            "causal_dependencies": [],
        });
        if catalogue::find(event_type).is_some_and(|info| info.critical) {
            event["full_payload_hash"] = json!(hash(&payload));
            event["delta_payload"] = payload.clone();
        }
        event["payload"] = payload;
        let place = self.queue.len();
        self.queue.push(Queued { at, event });
        &mut self.queue[place].event
    }
}

/// The hash that a till sends of a payload.
fn hash(payload: &Value) -> String {
    let text = payload.to_string();
    let json = Json::parse(&text).unwrap_or(Json::Null);
    canonical::hash(&json, KeyOrder::Rfc8785).iter().map(|byte| format!("{byte:02x}")).collect()
}
