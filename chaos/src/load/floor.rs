//! The floor: the rows that a node writes for a push, by one prepared statement, one connection a till.
//!
//! Never here: anything that SQL alone would not need. Contents are read and hashed before the clock starts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;
use velox_protocol::api::PushBody;
use velox_protocol::catalogue;
use velox_protocol::event::{self, Event, Sender};

use super::{Lane, Run};
use crate::measure;
use crate::till::Push;

/// One round trip: arrays in, events and their outbox entries written, the new ones told. Entity and priority
/// hang on the type alone and come as a small table beside the rows.
const INSERT: &str = "\
WITH fresh AS (
    INSERT INTO events (store_id, event_id, device_id, seq, type, version, payload, payload_hash, sent_hash,
                        delta_payload, vector_clock, causal_dependencies, request_id, actor_user_id,
                        actor_role, created_at, received_at)
    SELECT $1, e.event_id, $2, e.seq, e.type, e.version, e.payload::json, e.payload_hash, e.sent_hash,
           e.delta_payload::json, e.vector_clock::jsonb, e.causal_dependencies::jsonb, e.request_id,
           e.actor_user_id, e.actor_role, e.created_at, $3
    FROM UNNEST($4::text[], $5::bigint[], $6::text[], $7::integer[], $8::text[], $9::bytea[], $10::bytea[],
                $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
                $17::timestamptz[])
        AS e(event_id, seq, type, version, payload, payload_hash, sent_hash, delta_payload, vector_clock,
             causal_dependencies, request_id, actor_user_id, actor_role, created_at)
    ON CONFLICT DO NOTHING
    RETURNING event_id, type)
INSERT INTO outbox_entries (store_id, event_id, event_type, entity, priority, created_at)
SELECT $1, f.event_id, f.type, t.entity, t.priority, $3
FROM fresh f JOIN UNNEST($18::text[], $19::text[], $20::smallint[]) AS t(type, entity, priority) USING (type)
RETURNING event_id";

/// Executions with no rows before the clock starts: PostgreSQL plans the first five of a prepared statement
/// anew and may then keep a plan.
const WARM_UP: usize = 6;

/// The floor's database.
pub(crate) struct Floor {
    pub(crate) options: PgConnectOptions,
}

impl Floor {
    /// Each lane on a connection of its own, until its pushes or the time are over.
    pub(crate) async fn run(&self, lanes: Vec<Vec<Push>>, limit: Duration) -> Result<Run> {
        self.clear_outbox().await?;
        let barrier = Arc::new(Barrier::new(lanes.len()));
        let mut tills = JoinSet::new();
        for pushes in lanes {
            let rows: Vec<Rows> = pushes.iter().map(Rows::read).collect::<Result<_>>()?;
            tills.spawn(lane(self.options.clone(), rows, limit, barrier.clone()));
        }
        let mut lanes = Vec::new();
        while let Some(lane) = tills.join_next().await {
            lanes.push(lane??);
        }
        Run::of(lanes)
    }

    /// A node's outbox is empty before a run, so the floor's is.
    async fn clear_outbox(&self) -> Result<()> {
        let mut connection = self.options.connect().await?;
        connection.execute("TRUNCATE outbox_entries").await?;
        Ok(connection.close().await?)
    }
}

async fn lane(
    options: PgConnectOptions,
    rows: Vec<Rows>,
    limit: Duration,
    barrier: Arc<Barrier>,
) -> Result<Lane> {
    let mut connection = options.connect().await?;
    let types = Types::all();
    let warm_up = Rows::default();
    for _ in 0..WARM_UP {
        warm_up.insert(&types, &mut connection).await?;
    }
    barrier.wait().await;
    let mut lane = Lane::starting();
    for rows in &rows {
        let sent = measure::now();
        if sent - lane.started >= limit {
            break;
        }
        let written = rows.insert(&types, &mut connection).await?;
        ensure!(written == rows.event_id.len(), "{written} of {} rows are new", rows.event_id.len());
        lane.acknowledged(written, sent);
    }
    connection.close().await?;
    Ok(lane)
}

/// The events of one push, a vector a column.
#[derive(Debug, Default)]
struct Rows {
    store_id: Uuid,
    device_id: String,
    received_at: DateTime<Utc>,
    event_id: Vec<String>,
    seq: Vec<Option<i64>>,
    event_type: Vec<String>,
    version: Vec<i32>,
    payload: Vec<String>,
    payload_hash: Vec<[u8; 32]>,
    sent_hash: Vec<Option<[u8; 32]>>,
    delta_payload: Vec<Option<String>>,
    vector_clock: Vec<Option<String>>,
    causal_dependencies: Vec<Option<String>>,
    request_id: Vec<Option<String>>,
    actor_user_id: Vec<Option<String>>,
    actor_role: Vec<Option<String>>,
    created_at: Vec<DateTime<Utc>>,
}

impl Rows {
    /// Reads a push as a node does.
    fn read(push: &Push) -> Result<Self> {
        let body: PushBody<'_> = serde_json::from_str(&push.body)?;
        let now = measure::wall_clock();
        let store_id = body.store_id.parse()?;
        let sender = Sender { store_id, device_id: &body.device_id, client_version: "", user_id: None, now };
        let mut rows =
            Rows { store_id, device_id: body.device_id.clone(), received_at: now, ..Rows::default() };
        for text in &body.events {
            let received = event::read(text.get(), &sender);
            let received = received.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
            rows.push(received.event)?;
        }
        Ok(rows)
    }

    fn push(&mut self, event: Event) -> Result<()> {
        self.event_id.push(event.event_id);
        self.seq.push(event.seq);
        self.event_type.push(event.event_type);
        self.version.push(event.version);
        self.payload.push(event.payload);
        self.payload_hash.push(event.payload_hash);
        self.sent_hash.push(event.sent_hash);
        self.delta_payload.push(event.delta_payload);
        self.vector_clock.push(event.vector_clock.map(|clock| serde_json::to_string(&clock)).transpose()?);
        let dependencies = &event.causal_dependencies;
        let dependencies = (!dependencies.is_empty()).then(|| serde_json::to_string(dependencies));
        self.causal_dependencies.push(dependencies.transpose()?);
        self.request_id.push(event.request_id);
        self.actor_user_id.push(event.actor_user_id);
        self.actor_role.push(event.actor_role);
        self.created_at.push(event.created_at);
        Ok(())
    }

    /// How many were new.
    async fn insert(&self, types: &Types, connection: &mut PgConnection) -> Result<usize> {
        let query = sqlx::query(INSERT)
            .bind(self.store_id)
            .bind(&self.device_id)
            .bind(self.received_at)
            .bind(&self.event_id)
            .bind(&self.seq)
            .bind(&self.event_type)
            .bind(&self.version)
            .bind(&self.payload)
            .bind(&self.payload_hash)
            .bind(&self.sent_hash)
            .bind(&self.delta_payload)
            .bind(&self.vector_clock)
            .bind(&self.causal_dependencies)
            .bind(&self.request_id)
            .bind(&self.actor_user_id)
            .bind(&self.actor_role)
            .bind(&self.created_at)
            .bind(&types.name)
            .bind(&types.entity)
            .bind(&types.priority);
        let rows = query.fetch_all(connection).await?;
        // The answer names them, so they are read.
        rows.iter().try_for_each(|row| row.try_get::<&str, _>(0).map(|_| ())).context("an id")?;
        Ok(rows.len())
    }
}

/// What a type says about an outbox entry.
struct Types {
    name: Vec<&'static str>,
    entity: Vec<&'static str>,
    priority: Vec<i16>,
}

impl Types {
    fn all() -> Self {
        let types = catalogue::TYPES.iter();
        Types {
            name: types.clone().map(|info| info.name).collect(),
            entity: types.clone().map(|info| info.entity.name()).collect(),
            priority: types.map(|info| info.priority).collect(),
        }
    }
}
