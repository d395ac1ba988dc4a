//! The events that the node itself writes, as a device of each store (01, rule 2).
//!
//! They come through the same door as a till's: built as text, read, stored with links and outbox entry. Never here:
//! what such an event says, or when one is written.

use crate::events::{self, NewEvent, NewPush};
use crate::relay::Relays;
use crate::{Error, Store};
use chrono::{DateTime, Utc};
use serde_json::json;
use serde_json::value::RawValue;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;
use velox_protocol::clock::VectorClock;
use velox_protocol::event::{self, Sender, WarningCode};

/// What the node's events name as their client.
const CLIENT_VERSION: &str = "velox-node";

/// Who acted, as an event's `actor` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// A user, a device, or `admin`.
    pub user_id: String,
    /// `owner`, `cashier`, `device` or `admin`.
    pub role: String,
}

/// What the node's edge gives to an event of the node: ids and time are never made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStamp {
    /// Fresh; a UUIDv7.
    pub event_id: Uuid,
    /// The node's time.
    pub now: DateTime<Utc>,
    /// On whose behalf.
    pub actor: Actor,
    /// W3C trace context of the request.
    pub trace_parent: Option<String>,
}

/// The node as a device of one store, with the seq of its next event.
#[derive(Debug)]
pub(crate) struct Author {
    store_id: Uuid,
    pub(crate) node_id: String,
    /// UUIDv5 of store, node and incarnation.
    pub(crate) device_id: String,
    /// The next event's.
    pub(crate) seq: i64,
}

/// An event of the node, but for its stamp.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) event_type: &'a str,
    /// JSON text of an object.
    pub(crate) payload: &'a str,
    /// What it knows of others; the own entry is added.
    pub(crate) clock: VectorClock,
}

/// Why a draft is no event with a meaning, for a person.
pub(crate) type Refused = String;

/// The device under which a node writes. After a restore the incarnation is another, so that no seq comes twice.
pub fn node_device_id(store_id: Uuid, node_id: &str, incarnation: Uuid) -> Uuid {
    Uuid::new_v5(&store_id, format!("node:{node_id}:{incarnation}").as_bytes())
}

impl Store {
    /// A transaction in which the node writes: an answer comes after the disk has it, whatever the server's default.
    pub(crate) async fn begin_durable(&self) -> Result<Transaction<'static, Postgres>, Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("SET LOCAL synchronous_commit = on").execute(&mut *transaction).await?;
        Ok(transaction)
    }
}

impl Author {
    /// Draws the next seq. Others who write as this device wait until the transaction ends.
    pub(crate) async fn next(connection: &mut PgConnection, store_id: Uuid) -> Result<Self, Error> {
        let node = sqlx::query!("SELECT node_id, incarnation FROM node_identity")
            .fetch_optional(&mut *connection)
            .await?
            .ok_or_else(|| Error::Inconsistent { table: "node_identity", what: "it is empty".to_owned() })?;
        let device_id = node_device_id(store_id, &node.node_id, node.incarnation).to_string();
        let seq = draw(connection, store_id, &device_id, 0).await?;
        Ok(Author { store_id, node_id: node.node_id, device_id, seq })
    }

    /// Writes an event with its outbox entry. `Ok(Err)`: it would have no meaning, nothing is written.
    pub(crate) async fn write(
        mut self,
        connection: &mut PgConnection,
        draft: Draft<'_>,
        stamp: &NodeStamp,
        relays: &Relays,
    ) -> Result<Result<(), Refused>, Error> {
        let known = draft.clock.0.get(&self.device_id).copied().unwrap_or(0);
        if known >= self.seq {
            // Others know more of this node than it does itself: it has lost a part of its past.
            self.seq = draw(connection, self.store_id, &self.device_id, known).await?;
        }
        let new = match self.read(draft, stamp)? {
            Ok(new) => new,
            Err(refused) => return Ok(Err(refused)),
        };
        let push = NewPush { trace_parent: stamp.trace_parent.clone(), ..NewPush::default() };
        if events::insert_one(connection, &push, &new, relays).await? {
            Ok(Ok(()))
        } else {
            Err(Error::Inconsistent { table: "events", what: "a fresh id is taken".to_owned() })
        }
    }

    fn read(&self, draft: Draft<'_>, stamp: &NodeStamp) -> Result<Result<NewEvent, Refused>, Error> {
        let mut clock = draft.clock;
        clock.0.insert(self.device_id.clone(), self.seq);
        let payload: &RawValue = match serde_json::from_str(draft.payload) {
            Ok(payload) => payload,
            Err(_) => return Ok(Err("the payload is not JSON".to_owned())),
        };
        let text = json_text(&Envelope {
            event_id: stamp.event_id,
            seq: self.seq,
            event_type: draft.event_type,
            created_at: stamp.now.timestamp_millis(),
            actor: json!({ "user_id": stamp.actor.user_id, "role": stamp.actor.role }),
            payload,
            vector_clock: &clock,
        })?;
        let sender = Sender {
            store_id: self.store_id,
            device_id: &self.device_id,
            client_version: CLIENT_VERSION,
            user_id: None,
            now: stamp.now,
        };
        let received = match event::read(&text, &sender) {
            Ok(received) => received,
            Err(rejection) => return Ok(Err(rejection.message)),
        };
        let unclear = received.warnings.into_iter().find(|w| w.code == WarningCode::MalformedPayload);
        if let Some(warning) = unclear {
            return Ok(Err(warning.message));
        }
        let event = received.event;
        let links = received.meaning.map(|payload| payload.links(self.store_id, None)).unwrap_or_default();
        Ok(Ok(NewEvent { event, links, hop: None }))
    }
}

/// One element of a push's `events`.
#[derive(serde::Serialize)]
struct Envelope<'a> {
    event_id: Uuid,
    seq: i64,
    #[serde(rename = "type")]
    event_type: &'a str,
    created_at: i64,
    actor: serde_json::Value,
    payload: &'a RawValue,
    vector_clock: &'a VectorClock,
}

fn json_text(envelope: &Envelope<'_>) -> Result<String, Error> {
    serde_json::to_string(envelope)
        .map_err(|error| Error::Inconsistent { table: "events", what: error.to_string() })
}

/// The next seq of the device, above `known`.
async fn draw(
    connection: &mut PgConnection,
    store_id: Uuid,
    device_id: &str,
    known: i64,
) -> Result<i64, Error> {
    let seq = sqlx::query_scalar!(
        "INSERT INTO node_sequences AS s (store_id, device_id, last_seq) VALUES ($1, $2, $3::int8 + 1)
         ON CONFLICT (store_id, device_id) DO UPDATE SET last_seq = greatest(s.last_seq, $3::int8) + 1
         RETURNING last_seq",
        store_id,
        device_id,
        known
    )
    .fetch_one(connection)
    .await?;
    Ok(seq)
}
