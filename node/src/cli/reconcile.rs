//! `velox reconcile`: works beside a running node, under the same lease.

use super::{Context, Outcome, output};
use crate::clock::SystemClock;
use crate::config::Secret;
use crate::{federation, lifecycle};
use anyhow::anyhow;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;
use velox_actors::Deps;
use velox_actors::fault::Faults;
use velox_actors::metrics::Metrics;
use velox_actors::peer::OwnIdentity;
use velox_actors::reconciler::{self, Partner, Sink};
use velox_protocol::reconciled::Reconciled;
use velox_protocol::time::Clock;
use velox_store::{Leases, Store};

/// Arguments of `reconcile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Reconcile {
    /// This shop alone
    #[arg(long, value_name = "UUID")]
    store: Option<Uuid>,
    /// With this peer alone
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    /// Only report what each side lacks
    #[arg(long)]
    dry_run: bool,
}

impl Reconcile {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let database = context.database().await?;
        let reports = self.reconcile(&context, &database.store).await;
        database.close().await?;
        let reports = reports?;
        if context.json {
            output::json(&reports)?;
        } else if reports.is_empty() {
            println!("There is no shop or no peer to compare with.");
        } else {
            print(&reports);
        }
        let fine = reports.iter().all(|report| report.differences() == 0 && !report.skipped);
        Ok(if fine { Outcome::Fine } else { Outcome::Found })
    }

    async fn reconcile(&self, context: &Context, store: &Store) -> anyhow::Result<Vec<Reconciled>> {
        let config = &context.config;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let own = OwnIdentity::read(store).await?;
        let wires = federation::wires(&federation::peers(&config.peers), &own, &clock)?;
        let partners: Vec<Partner> = wires.into_iter().map(|wire| Partner { wire, relay: None }).collect();
        let leases = Leases::new(store.clone(), config.redis_url.as_ref().map(Secret::expose))?;
        let deps = Deps {
            store: store.clone(),
            clock,
            metrics: Arc::new(Metrics::new()),
            faults: Faults::disabled(),
            pod: rand::random(),
            settings: lifecycle::settings(config),
        };
        let wanted = reconciler::Reconcile {
            store_id: self.store,
            peer: self.peer.clone(),
            dry_run: self.dry_run,
            after_outage: false,
        };
        let (_alive, ending) = watch::channel(false);
        let sink = Sink::Database(store.clone());
        let reports = reconciler::reconcile(&deps, &leases, &partners, &sink, &wanted, ending, &|| {}).await;
        reports.map_err(|error| anyhow!(error))
    }
}

fn print(reports: &[Reconciled]) {
    let mut table =
        output::table(&["store", "peer", "kind", "it lacks", "queued", "we lack", "fetched", "remark"]);
    for report in reports {
        let kinds = [
            ("sessions", report.sessions),
            ("sales", report.sales),
            ("inventory", report.inventory.counts),
            ("debts", report.debts),
            ("voids", report.voids),
            ("debt payments", report.debt_payments),
            ("other", report.other),
        ];
        let (store, peer) = (report.store_id.to_string(), output::plain(&report.peer));
        let differing = kinds.iter().filter(|(_, k)| k.remote_missing_count + k.local_missing_count > 0);
        for (kind, counts) in differing {
            let counts = [
                counts.remote_missing_count,
                counts.replayed_to_remote,
                counts.local_missing_count,
                counts.replayed_to_local,
            ];
            let [lacks, queued, lacking, fetched] = counts.map(|count| count.to_string());
            table.add_row([&store, &peer, *kind, &lacks, &queued, &lacking, &fetched, ""]);
        }
        match &report.reason {
            Some(reason) => table.add_row([&store, &peer, "", "", "", "", "", &output::plain(reason)]),
            None if report.differences() == 0 => {
                table.add_row([&store, &peer, "", "", "", "", "", "the same"])
            }
            None => continue,
        };
    }
    println!("{table}");
}
