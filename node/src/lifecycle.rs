//! A node's life: database, migrations, tree, HTTP server; and its end, in the opposite order.
//!
//! Two whole nodes fit in one process: nothing here is global. Never here: what a request does.

use crate::app::AppState;
use crate::clock::fresh_id;
use crate::config::{Config, Secret};
use crate::federation::{self, Federation};
use crate::http;
use crate::http::auth::{Auth, Credentials};
use crate::http::body::IngestGate;
use crate::http::rate_limit::RateLimit;
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use anyhow::Context as _;
use sqlx_options::database_options;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tracing_actix_web::TracingLogger;
use velox_actors::breaker::BreakerPolicy;
use velox_actors::fault::Faults;
use velox_actors::metrics::Metrics;
use velox_actors::orphan_healer::Healing;
use velox_actors::peer::{OwnIdentity, Protocol};
use velox_actors::relay::Wire;
use velox_actors::tree::Node;
use velox_actors::{Deps, Settings};
use velox_protocol::time::Clock;
use velox_store::embedded::EmbeddedPostgres;
use velox_store::{Leases, RetryPolicy, Store};

mod sqlx_options;

/// Longest time from the wish to end until the process has ended.
pub const DRAIN: Duration = Duration::from_secs(20);
/// Of it for requests in flight.
const DRAIN_REQUESTS: u64 = 8;
/// Of it for actors.
const DRAIN_ACTORS: Duration = Duration::from_secs(6);
/// HTTP workers: as many as the smallest machine has cores.
const WORKERS: usize = 2;
/// A client that has not sent its headers by then is cut off.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// Idle connections are kept this long.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long the database may take to be there at the start: pods start beside it.
const DATABASE_LIMIT: Duration = Duration::from_secs(60);

/// What differs between a node and a node under test.
pub struct StartOptions {
    /// Whether faults may be injected.
    pub chaos: bool,
    /// The present time.
    pub clock: Arc<dyn Clock>,
    /// The promise that it breaks on purpose.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<velox_actors::sabotage::Sabotage>,
}

impl StartOptions {
    /// Of a node that keeps its promises.
    pub fn new(chaos: bool, clock: Arc<dyn Clock>) -> Self {
        StartOptions {
            chaos,
            clock,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }
}

/// A node that serves.
pub struct RunningNode {
    /// Where it listens.
    pub address: SocketAddr,
    /// The admin key in force.
    pub admin_key: Secret,
    /// What its handlers share.
    pub state: AppState,
    server: ServerHandle,
    served: actix_rt::task::JoinHandle<std::io::Result<()>>,
    tree: Node,
    postgres: Option<Arc<EmbeddedPostgres>>,
}

/// A database and, where it is embedded, its server.
pub struct Database {
    /// The pools.
    pub store: Store,
    /// The embedded server.
    pub postgres: Option<Arc<EmbeddedPostgres>>,
}

impl Database {
    /// Opens the configured database for a node that serves.
    ///
    /// # Errors
    /// The server's, or a URL that is none.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let postgres = match &config.database_url {
            Some(_) => None,
            None => Some(EmbeddedPostgres::start(&config.data_dir, config.pg_bin.as_deref()).await?),
        };
        Self::with(config, postgres)
    }

    /// Opens the configured database for a command, beside a running node or alone.
    ///
    /// # Errors
    /// The server's, or a URL that is none.
    pub async fn attach(config: &Config) -> anyhow::Result<Self> {
        let postgres = match &config.database_url {
            Some(_) => None,
            None => {
                Some(EmbeddedPostgres::attach_or_start(&config.data_dir, config.pg_bin.as_deref()).await?)
            }
        };
        Self::with(config, postgres)
    }

    fn with(config: &Config, postgres: Option<EmbeddedPostgres>) -> anyhow::Result<Self> {
        let options = match &postgres {
            Some(postgres) => postgres.connect_options(),
            None => database_options(config)?,
        };
        let targets: Vec<_> = federation::peers(&config.peers).iter().map(|peer| peer.target()).collect();
        let store = Store::new(options, config.db_max_connections).with_relays(&targets);
        Ok(Database { store, postgres: postgres.map(Arc::new) })
    }

    /// How to reach it, for PostgreSQL's own programs.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn connect_options(&self, config: &Config) -> anyhow::Result<velox_store::ConnectOptions> {
        match &self.postgres {
            Some(postgres) => Ok(postgres.connect_options()),
            None => database_options(config),
        }
    }

    /// Waits for the database, applies the migrations, and looks whether it is still the one that the node had.
    ///
    /// # Errors
    /// The last one, where the database does not come within a minute.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + DATABASE_LIMIT;
        let migrated = async || {
            self.store.migrate().await?;
            self.store.notice_restore().await
        };
        loop {
            match migrated().await {
                Ok(false) => return Ok(()),
                Ok(true) => {
                    tracing::warn!(
                        "the database was restored, copied or promoted: it goes on as another one"
                    );
                    return Ok(());
                }
                Err(error) if error.is_transient() && Instant::now() < deadline => {
                    tracing::warn!(%error, "waiting for the database");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error).context("the database cannot be migrated"),
            }
        }
    }

    /// Gives the connections back and stops an embedded server that is ours.
    ///
    /// # Errors
    /// The server's.
    pub async fn close(self) -> anyhow::Result<()> {
        self.store.close().await;
        if let Some(postgres) = self.postgres {
            postgres.stop().await?;
        }
        Ok(())
    }
}

/// Starts a node; inside an actix system.
///
/// # Errors
/// Whatever keeps it from serving, said once.
pub async fn start(config: &Config, options: StartOptions) -> anyhow::Result<RunningNode> {
    // Bound first: a port that is taken is found before a database is started.
    let listener =
        TcpListener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
    let admin_key = match &config.admin_key {
        Some(key) => key.clone(),
        None => made_admin_key(&config.data_dir)?,
    };
    let database = Database::open(config).await?;
    database.migrate().await?;
    let fresh = fresh_id().to_string();
    let node_id = database.store.node_id(config.node_id.as_deref(), &fresh).await?;
    let faults = if options.chaos { Faults::enabled(rand::random()) } else { Faults::disabled() };
    let metrics = Arc::new(Metrics::new());
    let deps = Deps {
        store: database.store.clone(),
        clock: options.clock.clone(),
        metrics: metrics.clone(),
        faults: faults.clone(),
        pod: rand::random(),
        settings: settings(config),
    };
    #[cfg(feature = "sabotage")]
    let deps = Deps { settings: Settings { sabotage: options.sabotage, ..deps.settings }, ..deps };
    let own = OwnIdentity::read(&database.store).await?;
    let wires = federation::wires(&federation::peers(&config.peers), &own, &options.clock)?;
    let leases = Leases::new(database.store.clone(), config.redis_url.as_ref().map(Secret::expose))?;
    let tree = Node::start(&deps, database.postgres.clone(), &wires, &leases);
    let credentials = credentials(config, &admin_key, &wires);
    let limit = RateLimit::new(config.rate_limit_rps, config.rate_limit_burst);
    let auth = web::Data::new(Auth::new(&credentials, database.store.clone(), limit, options.clock.clone()));
    let state = AppState {
        store: database.store,
        ingest: tree.ingest.clone(),
        federation: Arc::new(Federation::new(tree.relays.clone(), tree.reconciler.clone())),
        pump: tree.pump.clone(),
        healer: tree.healer.clone(),
        healing: healing(config),
        fiscal: tree.fiscal.clone(),
        fiscal_ttl: config.fiscal_ttl,
        tree: tree.tree(),
        faults,
        auth,
        gate: IngestGate::default(),
        metrics,
        clock: options.clock,
        own,
        cors_origins: config.cors_origins.clone().into(),
        draining: Arc::new(AtomicBool::new(false)),
    };
    let server = server(listener, &state)?;
    let handle = server.handle();
    #[expect(
        clippy::disallowed_methods,
        reason = "the server is no actor; its end is watched by `RunningNode`"
    )]
    let served = actix_rt::spawn(server);
    tracing::info!(%address, node_id, "the node serves");
    Ok(RunningNode { address, admin_key, state, server: handle, served, tree, postgres: database.postgres })
}

/// How a projection is tried that is asked for by hand.
pub(crate) fn healing(config: &Config) -> Healing {
    let settings = settings(config);
    Healing { retry: settings.projection_retry, keep: !settings.outbox_retention.is_zero() }
}

/// What callers are known by.
fn credentials(config: &Config, admin_key: &Secret, wires: &[Wire]) -> Credentials {
    Credentials {
        admin_key: Some(admin_key.clone()),
        jwt_secret: config.jwt_secret.clone(),
        jwt_grace: config.jwt_grace,
        v1_nodes: wires
            .iter()
            .map(Wire::peer)
            .filter(|peer| peer.protocol == Protocol::V1)
            .cloned()
            .collect(),
    }
}

/// The part of the configuration that actors read.
pub(crate) fn settings(config: &Config) -> Settings {
    let max_retries = i32::try_from(config.outbox_max_retries).unwrap_or(i32::MAX);
    Settings {
        outbox_poll: config.outbox_poll,
        projection_retry: RetryPolicy { max_retries, base: config.outbox_retry_base_projection },
        relay_retry: RetryPolicy { max_retries, base: config.outbox_retry_base_relay },
        breaker: BreakerPolicy {
            failures: config.breaker_failures,
            successes: config.breaker_successes,
            open: config.breaker_open,
        },
        heal_interval: config.heal_interval,
        reconcile_interval: config.reconcile_interval,
        lease_ttl: config.lease_ttl,
        outbox_retention: config.outbox_retention,
        hang_limit: config.hang_limit,
        #[cfg(feature = "sabotage")]
        sabotage: None,
    }
}

fn server(listener: TcpListener, state: &AppState) -> std::io::Result<actix_web::dev::Server> {
    let state = state.clone();
    let app = move || {
        let shared = web::Data::new(state.clone());
        let for_routes = state.clone();
        let counted = state.metrics.clone();
        App::new()
            .app_data(shared)
            .app_data(web::Data::new(state.store.clone()))
            .app_data(state.auth.clone())
            .configure(move |app| http::routes(app, &for_routes))
            .wrap(from_fn(move |request, next| http::ops::count_request(counted.clone(), request, next)))
            .wrap(http::cors::cors(&state.cors_origins))
            .wrap(TracingLogger::<http::trace::HttpSpan>::new())
            .wrap(from_fn(http::request_id::request_id))
    };
    let server = HttpServer::new(app)
        .workers(WORKERS)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEADER_LIMIT)
        .shutdown_timeout(DRAIN_REQUESTS)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// The key of the data directory: made at the first start, readable by its owner alone.
fn made_admin_key(data_dir: &Path) -> anyhow::Result<Secret> {
    let path = data_dir.join("admin.key");
    if let Ok(key) = std::fs::read_to_string(&path) {
        let key = key.trim();
        anyhow::ensure!(!key.is_empty(), "{} is empty: remove it and a new key is made", path.display());
        return Ok(Secret::new(key));
    }
    let key: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    std::io::Write::write_all(
        &mut file.with_context(|| format!("cannot make {}", path.display()))?,
        key.as_bytes(),
    )?;
    tracing::info!(path = %path.display(), "an admin key was made");
    Ok(Secret::new(key))
}

impl RunningNode {
    /// Resolves with the reason when the node cannot go on.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        self.tree.failed()
    }

    /// Says from now on that the node is not ready, while it goes on serving.
    pub fn drain(&self) {
        self.state.draining.store(true, Ordering::Relaxed);
    }

    /// Ends the node: not ready first, then requests in flight, actors, connections, the embedded server.
    ///
    /// # Errors
    /// The embedded server's.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.drain();
        self.server.stop(true).await;
        if let Err(error) = self.served.await {
            tracing::warn!(%error, "the HTTP server ended badly");
        }
        self.tree.stop(DRAIN_ACTORS).await;
        Database { store: self.state.store, postgres: self.postgres }.close().await?;
        tracing::info!("the node has ended");
        Ok(())
    }
}
