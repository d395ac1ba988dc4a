//! What a node says of itself when all is over: its log, its lists, its queue, its healer, and `velox verify`.
//!
//! By HTTP and the node's own command, as an operator asks. Never here: whether any of it is right.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Caller, Pod};

/// The lists of a shop that both sides of a federation must agree on, row by row.
pub const LISTS: [&str; 8] =
    ["sales", "debts", "products", "customers", "cash-sessions", "cash-ledger", "stock", "stock-movements"];
/// Events of a page: each may have two kilobytes and more.
const PAGE: usize = 500;

/// A node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Its name.
    pub node: String,
    /// Ids of all events, as often as pulls give them.
    pub log: Vec<String>,
    /// Rows, by list.
    pub lists: BTreeMap<String, Vec<Value>>,
    /// Entries of its outbox that are not done.
    pub entries: Vec<Value>,
    /// What `POST /sync/heal` answered; null: it was not asked.
    pub healed: Value,
    /// What `velox verify` found.
    pub findings: Vec<Value>,
}

/// The log and the queue alone, in the midst of a run.
///
/// # Errors
/// Where the node does not answer.
pub async fn log_and_queue(name: &str, pod: &Pod, store_id: Uuid) -> Result<Observed> {
    let admin = pod.admin();
    let (log, entries) = (log(&admin, store_id).await?, entries(&admin, store_id).await?);
    Ok(Observed { node: name.to_owned(), log, entries, ..Observed::default() })
}

/// All of it.
///
/// # Errors
/// Where the node does not answer.
pub async fn observe(name: &str, pod: &Pod, store_id: Uuid) -> Result<Observed> {
    let admin = pod.admin();
    let mut observed = log_and_queue(name, pod, store_id).await?;
    for list in LISTS {
        observed.lists.insert(list.to_owned(), admin.list(store_id, list).await?);
    }
    observed.healed = admin.post("/sync/heal", &json!({ "store_id": store_id })).await?;
    observed.findings = verify(pod).await?;
    Ok(observed)
}

async fn verify(pod: &Pod) -> Result<Vec<Value>> {
    let said = pod.run(&["verify", "--json"]).await?;
    let out = String::from_utf8_lossy(&said.stdout);
    serde_json::from_str(&out)
        .with_context(|| format!("velox verify: {out}{}", String::from_utf8_lossy(&said.stderr)))
}

async fn log(admin: &Caller, store_id: Uuid) -> Result<Vec<String>> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/sync/pull?store_id={store_id}&limit={PAGE}&cursor={cursor}");
        let page = admin.get(&path).await?;
        let events = page["events"].as_array().context("a pull without events")?;
        ids.extend(events.iter().filter_map(|event| event["event_id"].as_str()).map(str::to_owned));
        if page["has_more"] != true {
            return Ok(ids);
        }
        page["next_cursor"].as_str().context("no cursor")?.clone_into(&mut cursor);
    }
}

async fn entries(admin: &Caller, store_id: Uuid) -> Result<Vec<Value>> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/sync/outbox?store_id={store_id}&limit={PAGE}{cursor}");
        let mut page = admin.get(&path).await?;
        rows.append(page["items"].as_array_mut().context("an outbox without items")?);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(rows),
        }
    }
}
