//! Every SQL statement of the system: one module a table family. Nobody else writes SQL.
//!
//! Never here: decisions about events (see `velox_protocol`), timers, HTTP.
//!
//! To add a query: 1. a method of [`Store`] in the module of its table, with `query!` so that it is checked,
//! 2. `./dev prepare`, 3. a test that owns a database (see [`testing`]).

mod acknowledged;
pub mod backup;
mod conflicts;
mod custody;
mod devices;
mod digests;
pub mod embedded;
mod error;
mod events;
mod fiscal;
mod health;
mod id_lists;
mod identity;
mod lease;
mod node_events;
mod notifications;
mod orphans;
mod outbox;
mod outbox_ops;
mod peers_seen;
mod projections;
mod pull;
mod reads;
mod rebuild;
mod reconcile;
mod recount;
mod relay;
mod relay_queue;
mod replay;
mod schema;
mod snapshot;
mod stored;
mod stores;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod triage;
mod verify;

pub use acknowledged::{Acknowledgement, PullPositions};
pub use conflicts::{AuditFilter, AuditRow, Choice, ConflictVersion, OpenConflictRow, Resolved, Strategy};
pub use custody::{Delivery, EventTrail, OutboxTrail, ProjectionTrail, TrailActor, VariantTrail, WaitingFor};
pub use devices::{DeviceRow, PullPosition, TokenHash};
pub use digests::recount::Recounted;
pub use error::Error;
pub use events::{Hop, IngestOutcome, Ingested, NewEvent, NewPush, PushOutcome};
pub use fiscal::{
    Consumed, DeclaredSeries, FiscalDuplicate, FiscalRangeFilter, FiscalRangeRow, FiscalSeriesRow,
    LedgerFilter, LedgerKey, LedgerRow, NewRange, NewSeries, Reported, Reserved,
};
pub use health::Readiness;
pub use id_lists::{IdList, Named, Source};
pub use identity::Identity;
pub use lease::{Fence, Held, Leases};
pub use node_events::{Actor, NodeStamp, node_device_id};
pub use notifications::{NewNotification, NotificationRow};
pub use orphans::{Healed, Orphan, Orphans};
pub use outbox::{Claim, Entry, OutboxCounts, OutboxDone, RetryPolicy};
pub use outbox_ops::{
    OutboxBacklog, OutboxFilter, OutboxKey, OutboxRow, OutboxStats, OutboxStatus, OutboxTarget, OutboxWork,
    Requeued,
};
pub use peers_seen::{KeptBreaker, PeerSeen};
pub use projections::{BatchReport, ProjectionFailure};
pub use pull::{PullRequest, Pulled};
pub use reads::*;
pub use rebuild::{Difference, Rebuilt};
pub use reconcile::{AnswerError, Portion, ReconcileError, Reconciliation, Summary};
pub use recount::StockRecount;
pub use relay::{FormRow, Refusal, RelayClaim, RelayCounts, RelayEntry, RelayTarget};
pub use replay::Awaited;
pub use schema::Repaired;
pub use snapshot::{Snapshot, TopSeller};
pub use stores::{CreatedStore, StoreRow};
pub use triage::{Asker, AwayPeer, HealedAll, Mending, QUESTIONS, StillMissing};
pub use verify::Finding;

/// A column that holds JSON.
pub use sqlx::types::Json;

/// How to reach a database: parsed from a `postgres://` URL.
pub use sqlx::postgres::PgConnectOptions as ConnectOptions;

use relay::Relays;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{PgConnection, Postgres};
use std::sync::Arc;
use std::time::Duration;

/// The migrations, in order; forward only.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// Connections for ingest: two writers and a spare for the one that is being replaced.
const INGEST_CONNECTIONS: u32 = 3;
/// Connections for projectors: one an entity would be more than two cores can feed.
const PROJECTION_CONNECTIONS: u32 = 4;
/// Connections for relays, which wait for peers most of the time, and for the nonces of peers' requests.
const RELAY_CONNECTIONS: u32 = 3;
/// How long a caller waits for a free connection before it is told that the database is not available.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// `application_name` of ingest connections: the bound of a pull is read from their open transactions.
pub(crate) const INGEST_APPLICATION: &str = "velox-ingest";
/// `application_name` of projector connections, which never insert events.
pub(crate) const PROJECTION_APPLICATION: &str = "velox-projection";

/// Ingest and projectors look rows up by their keys and do nothing else, also while a table is empty.
const BY_KEY: [(&str, &str); 3] =
    [("enable_seqscan", "off"), ("enable_hashjoin", "off"), ("enable_mergejoin", "off")];
/// A statement that is planned on an empty table would keep the first index that fits when the table has grown.
const PLAN_ANEW: (&str, &str) = ("plan_cache_mode", "force_custom_plan");
/// Ingest's statement finds one index where it looks, so its plan can be kept.
const PLAN_ONCE: (&str, &str) = ("plan_cache_mode", "force_generic_plan");

/// The database of one node, shared by its pods. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    ingest: PgPool,
    projection: PgPool,
    relay: PgPool,
    relays: Arc<Relays>,
}

impl Store {
    /// Opens the pools; connections are made when they are needed. `max_connections` counts all pools.
    pub fn new(options: PgConnectOptions, max_connections: u32) -> Self {
        let options = options.options([
            ("statement_timeout", "30s"),
            ("lock_timeout", "15s"),
            ("idle_in_transaction_session_timeout", "60s"),
            ("timezone", "UTC"),
        ]);
        let general = max_connections
            .saturating_sub(INGEST_CONNECTIONS + PROJECTION_CONNECTIONS + RELAY_CONNECTIONS)
            .max(2);
        let pool = |application: &str, extra: &[(&str, &str)], size: u32| {
            let options = options.clone().application_name(application).options(extra.iter().copied());
            PgPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(Duration::from_secs(300))
                .test_before_acquire(false)
                .after_connect(|connection, _| Box::pin(work_as_runtime(connection)))
                .connect_lazy_with(options)
        };
        // A projection that a crash loses comes back with its outbox entry, so it need not wait for the disk.
        let projecting = [BY_KEY.as_slice(), &[PLAN_ANEW, ("synchronous_commit", "off")]].concat();
        // Whatever the server's default is: an answer comes after the disk has the events.
        let ingesting = [BY_KEY.as_slice(), &[PLAN_ONCE, ("synchronous_commit", "on")]].concat();
        Store {
            pool: pool("velox", &[PLAN_ANEW], general),
            ingest: pool(INGEST_APPLICATION, &ingesting, INGEST_CONNECTIONS),
            projection: pool(PROJECTION_APPLICATION, &projecting, PROJECTION_CONNECTIONS),
            // A claim or a mark that a crash loses is made again, and events that come twice count once.
            relay: pool("velox-relay", &projecting, RELAY_CONNECTIONS),
            relays: Arc::default(),
        }
    }

    /// The store of a node that relays every new event to these peers.
    #[must_use]
    pub fn with_relays(self, targets: &[RelayTarget]) -> Self {
        Store { relays: Arc::new(Relays::to(targets)), ..self }
    }

    /// Applies the migrations; of several pods at once one does, the others wait.
    ///
    /// # Errors
    /// [`Error::Migrate`], also where the database is newer than this program.
    pub async fn migrate(&self) -> Result<(), Error> {
        // The pool's statement time-out is for requests; a migration may take longer.
        let mut connection = self.pool.acquire().await?;
        sqlx::query("SET statement_timeout = 0").execute(&mut *connection).await?;
        // Another pod that migrates is waited for.
        sqlx::query("SET lock_timeout = 0").execute(&mut *connection).await?;
        sqlx::query("SET ROLE NONE").execute(&mut *connection).await?;
        let migrated = MIGRATOR.run(&mut *connection).await;
        sqlx::query("RESET statement_timeout").execute(&mut *connection).await?;
        sqlx::query("RESET lock_timeout").execute(&mut *connection).await?;
        work_as_runtime(&mut connection).await?;
        Ok(migrated?)
    }

    /// Gives up the sessions that cannot write: one that began on a read-only database stays read-only when the
    /// database is not any more. `refused`: the pool of the session that has refused, which may be on its way back.
    pub(crate) async fn renew_sessions(&self, refused: &PgPool) {
        for _ in 0..refused.size() {
            // Connections that are free are handed out in turn.
            match refused.acquire().await {
                Ok(connection) => give_up_read_only(connection).await,
                Err(_) => break,
            }
        }
        for pool in [&self.pool, &self.ingest, &self.projection, &self.relay] {
            for _ in 0..pool.num_idle() {
                match pool.try_acquire() {
                    Some(connection) => give_up_read_only(connection).await,
                    None => break,
                }
            }
        }
    }

    /// Closes the pools once their connections have come back.
    pub async fn close(&self) {
        self.relay.close().await;
        self.projection.close().await;
        self.ingest.close().await;
        self.pool.close().await;
    }
}

/// Gives up a session that cannot write.
async fn give_up_read_only(mut connection: PoolConnection<Postgres>) {
    let read_only: Result<bool, sqlx::Error> =
        sqlx::query_scalar("SELECT current_setting('transaction_read_only')::boolean")
            .fetch_one(&mut *connection)
            .await;
    if !matches!(read_only, Ok(false)) {
        connection.close_on_drop();
    }
}

/// Gives up the right to change events, where the migrations could make the role for it.
async fn work_as_runtime(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('role', rolname, false) FROM pg_roles
         WHERE rolname = 'velox_runtime' AND pg_has_role(current_user, oid, 'MEMBER')
           AND to_regclass('events') IS NOT NULL AND has_table_privilege(oid, to_regclass('events'), 'INSERT')",
    )
    .execute(connection)
    .await?;
    Ok(())
}
