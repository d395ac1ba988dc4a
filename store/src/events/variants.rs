//! Other forms of known events: kept beside what came first; of all of them the smallest one counts.
//!
//! A form that becomes the effective one is always one that has just come, so it stands in the log at its own
//! arrival, where no reader has passed yet. Never here: what a form means (see `crate::projections`).

use super::columns::{self, Columns};
use super::known::ComparedForm;
use super::{NewEvent, NewPush, fences};
use crate::lease::check_fence;
use crate::{Error, Store};
use sqlx::PgConnection;
use sqlx::types::Json;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use velox_protocol::catalogue::{self, Entity};
use velox_protocol::clock::VectorClock;
use velox_protocol::event::Form;

/// Class of the advisory locks under which two pods take turns at the forms of one event; `crate::projections`
/// has others.
const LOCK_CLASS: i32 = 0x5645_0010;
/// Forms of one transaction: each event's is a lock, and pulls wait for its end.
const AT_ONCE: usize = 200;
/// Attempts at a transaction that met another one, such as a projection of the same event.
const ATTEMPTS: u32 = 3;

/// Another form of a known event, as it was sent.
pub(super) struct Variant<'a> {
    pub(super) push: &'a NewPush,
    pub(super) new: &'a NewEvent,
    pub(super) form: Form,
}

impl Variant<'_> {
    fn id(&self) -> (Uuid, &str) {
        (self.new.event.store_id, &self.new.event.event_id)
    }
}

/// Events of which another form counts now, by column.
#[derive(Default)]
struct Flips<'a> {
    store_id: Vec<Uuid>,
    event_id: Vec<&'a str>,
    form_hash: Vec<&'a [u8]>,
    event_type: Vec<&'a str>,
    entity: Vec<&'a str>,
    priority: Vec<i16>,
    trace_parent: Vec<Option<&'a str>>,
}

impl Store {
    /// Keeps these forms, and has the events projected anew of which another form counts now. Answers who does it.
    pub(super) async fn keep_variants(
        &self,
        mut variants: Vec<Variant<'_>>,
    ) -> Result<BTreeSet<Entity>, Error> {
        variants.sort_by(|a, b| (a.id(), &a.form).cmp(&(b.id(), &b.form)));
        let mut requeued = BTreeSet::new();
        for some in variants.chunks(AT_ONCE) {
            let mut attempt = 1;
            let entities = loop {
                match self.keep_some(some).await {
                    // What this push brought is stored by now, so it is not begun anew.
                    Err(Error::Conflict(error)) if attempt < ATTEMPTS => {
                        tracing::debug!(%error, attempt, "other forms met another transaction");
                        attempt += 1;
                    }
                    kept => break kept?,
                }
            };
            requeued.extend(entities);
        }
        Ok(requeued)
    }

    async fn keep_some(&self, variants: &[Variant<'_>]) -> Result<BTreeSet<Entity>, Error> {
        let mut transaction = self.ingest.begin().await?;
        for fence in fences(variants.iter().map(|variant| variant.push)) {
            check_fence(&mut transaction, fence).await?;
        }
        let mut columns = Columns::default();
        for variant in variants {
            columns.add(variant.push, variant.new);
        }
        let (stores, ids) = columns.ids();
        let effective = lock_and_read(&mut transaction, stores, ids).await?;
        let hashes: Vec<&[u8]> = variants.iter().map(|variant| variant.form.hash.as_slice()).collect();
        columns::keep(&mut transaction, &columns, &hashes).await?;
        let flips = Flips::of(variants, &effective);
        if !flips.event_id.is_empty() {
            flips.mark(&mut transaction).await?;
            flips.queue(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(flips.event_type.iter().map(|name| catalogue::entity(name)).collect())
    }
}

/// The forms that count so far. Nobody else decides about these events until the end of the transaction.
async fn lock_and_read(
    connection: &mut PgConnection,
    stores: &[Uuid],
    ids: &[&str],
) -> Result<BTreeMap<(Uuid, String), Form>, Error> {
    // In one order, so that two pods never wait for each other in a circle.
    sqlx::query!(
        "SELECT pg_advisory_xact_lock($1, k.key) FROM (
             SELECT DISTINCT hashtext(store_id::text || event_id) AS key
             FROM unnest($2::uuid[], $3::text[]) AS e(store_id, event_id) ORDER BY key) AS k",
        LOCK_CLASS,
        stores,
        ids as &[&str],
    )
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query_as!(
        ComparedForm,
        r#"SELECT e.store_id AS "store_id!", e.event_id AS "event_id!", e.device_id AS "device_id!", e.seq,
               e.type AS "event_type!", e.version AS "version!", e.payload_hash AS "payload_hash!", e.created_at AS "created_at!",
               e.vector_clock AS "vector_clock: Json<VectorClock>", e.request_id
           FROM (SELECT DISTINCT * FROM unnest($1::uuid[], $2::text[])) AS k(store_id, event_id)
           JOIN effective_events e USING (store_id, event_id)"#,
        stores,
        ids as &[&str],
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| Ok(((row.store_id, row.event_id.clone()), row.event()?.form()))).collect()
}

impl<'a> Flips<'a> {
    /// The smallest of each event's forms, where that is not the one that counts so far. `variants`: sorted by
    /// event and form.
    fn of(variants: &'a [Variant<'a>], effective: &BTreeMap<(Uuid, String), Form>) -> Self {
        let mut flips = Flips::default();
        for same in variants.chunk_by(|a, b| a.id() == b.id()) {
            let Some(smallest) = same.first() else { continue };
            let (store_id, event_id) = smallest.id();
            if effective.get(&(store_id, event_id.to_owned())).is_some_and(|form| smallest.form < *form) {
                let event_type = smallest.new.event.event_type.as_str();
                flips.store_id.push(store_id);
                flips.event_id.push(event_id);
                flips.form_hash.push(&smallest.form.hash);
                flips.event_type.push(event_type);
                flips.entity.push(catalogue::entity(event_type).name());
                flips.priority.push(catalogue::priority(event_type));
                flips.trace_parent.push(smallest.push.trace_parent.as_deref());
            }
        }
        flips
    }

    /// Marks the forms that count now. The old mark goes first: an event has one at most.
    async fn mark(&self, connection: &mut PgConnection) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE event_variants v SET effective = false
             FROM unnest($1::uuid[], $2::text[]) AS f(store_id, event_id)
             WHERE v.store_id = f.store_id AND v.event_id = f.event_id AND v.effective",
            &self.store_id,
            &self.event_id as &[&str],
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!(
            "UPDATE event_variants v SET effective = true
             FROM unnest($1::uuid[], $2::text[], $3::bytea[]) AS f(store_id, event_id, form_hash)
             WHERE v.store_id = f.store_id AND v.event_id = f.event_id AND v.form_hash = f.form_hash",
            &self.store_id,
            &self.event_id as &[&str],
            &self.form_hash as &[&[u8]],
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Has the events projected anew, by whoever projects the form that counts now.
    async fn queue(&self, connection: &mut PgConnection) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO outbox_entries (store_id, event_id, event_type, target, entity, priority, created_at,
                 trace_parent)
             SELECT store_id, event_id, type, 'projection', entity, priority,
                 date_trunc('milliseconds', (SELECT clock_timestamp())), trace_parent
             FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int2[], $6::text[])
                 AS f(store_id, event_id, type, entity, priority, trace_parent)
             -- In one order, so that two who queue the same events do not wait for each other.
             ORDER BY store_id, event_id COLLATE \"C\"
             ON CONFLICT (store_id, event_id, target, peer) DO UPDATE
             SET event_type = EXCLUDED.event_type, entity = EXCLUDED.entity, priority = EXCLUDED.priority,
                 trace_parent = EXCLUDED.trace_parent, status = 'pending',
                 -- An entry that is as old as its event says that the event was never projected.
                 created_at = CASE WHEN outbox_entries.status = 'processed' THEN EXCLUDED.created_at
                                   ELSE outbox_entries.created_at END,
                 retry_count = 0, next_attempt_at = NULL, error = NULL, processed_at = NULL, locked_until = NULL,
                 claim_token = NULL",
            &self.store_id,
            &self.event_id as &[&str],
            &self.event_type as &[&str],
            &self.entity as &[&str],
            &self.priority,
            &self.trace_parent as &[Option<&str>],
        )
        .execute(&mut *connection)
        .await?;
        // A statement of its own: one that waited for an entry to die does not see the exception of that death.
        sqlx::query!(
            "DELETE FROM event_exceptions x USING unnest($1::uuid[], $2::text[]) AS f(store_id, event_id)
             WHERE x.store_id = f.store_id AND x.event_id = f.event_id AND x.status IN ('failed', 'skipped')",
            &self.store_id,
            &self.event_id as &[&str],
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
