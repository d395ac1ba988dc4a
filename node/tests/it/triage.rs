//! R0.1–R0.3: what is wrong with a store on two nodes is named and mended, whatever its queues and exceptions say.
//!
//! Each letter is produced for real. Then the answer is hidden: exceptions and entries are deleted, and only missing
//! data are left.

mod broken;
mod cut;
mod peers;
mod told;

use crate::database::{execute, number};
use crate::pair::{KEY, Pair, peer};
use crate::process::{Home, Ran};
use crate::support::{ADMIN, TestNode, Till, event, id, wait};
use serde_json::{Value, json};
use sqlx::PgPool;

/// Nobody mends anything by himself, and what fails is dead at once.
const QUIET: [(&str, &str); 3] = [
    ("VELOX_HEAL_INTERVAL_MS", "3600000"),
    ("VELOX_OUTBOX_MAX_RETRIES", "2"),
    ("VELOX_OUTBOX_RETRY_BASE_MS", "1"),
];

/// A pair with a shop that both know.
pub(crate) struct Shop {
    pub(crate) pair: Pair,
    pub(crate) till: Till,
    /// The databases of both.
    pub(crate) a: PgPool,
    pub(crate) b: PgPool,
    home: Home,
}

impl Shop {
    /// A sound pair with some debts and payments.
    pub(crate) async fn open() -> Shop {
        let pair = Pair::start(&QUIET).await;
        let till = pair.a.client.till().await;
        pair.a.client.push(&till, &debts(2)).await;
        pair.quiet().await;
        let (a, b) = (pair.a.database.pool().await, pair.b.database.pool().await);
        Shop { pair, till, a, b, home: Home::new() }
    }

    /// The verdict of node a's call.
    pub(crate) async fn triage(&self) -> Value {
        triage(&self.pair.a, &self.till).await
    }

    /// A command at node a.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[]).await
    }

    async fn run_with(&self, arguments: &[&str], more: &[(&str, &str)]) -> Ran {
        let peers = peer("b", self.pair.b.node.address, KEY);
        let at = [("VELOX_DATABASE_URL", self.pair.a.database.url()), ("VELOX_PEERS", peers.as_str())];
        let store = self.till.store_id.to_string();
        self.home
            .run(&[&["triage", "--store", &store], arguments].concat(), &[&at[..], &QUIET[..], more].concat())
            .await
    }

    /// Mends, and finds nothing more.
    pub(crate) async fn mend(&self) -> Ran {
        let mended = self.run(&["--fix", "--no-backup"]).await;
        assert_eq!(mended.code, Some(0), "{}\n{}", mended.out, mended.err);
        self.is_well().await;
        mended
    }

    /// Both have the same events, and rows for them.
    pub(crate) async fn is_well(&self) {
        let found = self.triage().await;
        assert_eq!(found["verdict"], "OK", "{found:#}");
        for pool in [&self.a, &self.b] {
            assert_eq!(number(pool, "SELECT count(*) FROM event_gaps").await, 0, "orphans");
            assert_eq!(
                number(pool, "SELECT count(*) FROM event_exceptions WHERE status = 'failed'").await,
                0
            );
        }
        let events = "SELECT count(*) FROM events";
        assert_eq!(number(&self.a, events).await, number(&self.b, events).await);
        let second = self.run(&["--json"]).await;
        assert_eq!((second.code, &second.json()["verdict"]), (Some(0), &json!("OK")), "{second:?}");
    }

    /// Deletes what would say what is wrong.
    pub(crate) async fn hide(&self) {
        for pool in [&self.a, &self.b] {
            execute(pool, "DELETE FROM outbox_entries; DELETE FROM event_exceptions".to_owned()).await;
        }
    }

    pub(crate) async fn close(self) {
        self.a.close().await;
        self.b.close().await;
        self.pair.stop().await;
    }
}

/// The verdict of a node's call.
pub(crate) async fn triage(node: &TestNode, till: &Till) -> Value {
    let answer =
        node.client.call("GET", &format!("/sync/triage?store_id={}", till.store_id), ADMIN, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Checks a verdict of a kind, and that it is that of the store.
pub(crate) fn is_named(found: &Value, letter: &str, kind: &str, count: u64) {
    assert_eq!(found["verdict"], letter, "{found:#}");
    let of_kind = &found["kinds"][kind];
    assert_eq!(
        (&of_kind["verdict"], of_kind["count"].as_u64()),
        (&json!(letter), Some(count)),
        "{of_kind:#}"
    );
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    assert!(text(&found["cause"]) && text(&found["command"]), "{found:#}");
    assert!(text(&of_kind["cause"]) && text(&of_kind["command"]) && text(&of_kind["since"]), "{of_kind:#}");
    assert!(of_kind["evidence"].as_array().is_some_and(|sentences| !sentences.is_empty()), "{of_kind:#}");
}

/// So many debts, each with a payment.
pub(crate) fn debts(count: usize) -> Vec<Value> {
    let debt = |_| {
        let debt = id();
        [
            event("DebtCreated", json!({ "debt_id": debt, "total_amount": 5, "note": "fiao" })),
            event("DebtPaymentRecorded", json!({ "payment_id": id(), "debt_id": debt, "amount": 1 })),
        ]
    };
    (0..count).flat_map(debt).collect()
}

/// Waits until so many projection entries of a node are dead.
pub(crate) async fn dead(pool: &PgPool, count: i64) {
    let sql = "SELECT count(*) FROM outbox_entries WHERE target = 'projection' AND status = 'dead'";
    wait(&format!("{count} dead entries"), async || number(pool, sql).await == count).await;
}
