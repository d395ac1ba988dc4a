//! How a node stands in the middle of the demo: its counters, its breaker, its backlog.

use super::client::Caller;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A look at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    sales: usize,
    debts: usize,
    open_conflicts: usize,
    /// None: the node says nothing of its peer.
    peer: Option<Peer>,
}

/// How a node stands to its peer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Peer {
    /// `CLOSED`, `OPEN` or `HALF_OPEN`; of v1 in small letters.
    circuit_breaker_state: Option<String>,
    pending: Option<u64>,
    reachable: Option<bool>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    peers: Vec<Peer>,
}

impl Look {
    pub(super) async fn at(admin: &Caller) -> anyhow::Result<Look> {
        let count = async |list| admin.list::<IgnoredAny>(list).await.map(|rows| rows.len());
        Ok(Look {
            sales: count("sales").await?,
            debts: count("debts").await?,
            open_conflicts: admin.open_conflicts().await?.len(),
            peer: Peer::of(admin).await?,
        })
    }

    /// Everything in one line.
    pub(super) fn line(&self, node: &str) -> String {
        let (breaker, backlog) = match &self.peer {
            Some(peer) => {
                (peer.breaker(), peer.pending.map_or("?".to_owned(), |pending| pending.to_string()))
            }
            None => ("?".to_owned(), "?".to_owned()),
        };
        format!(
            "{node:<5}  {:>4} sales  {:>3} debts  {} to decide  breaker {breaker:<9}  {backlog:>4} events wait for the peer",
            self.sales, self.debts, self.open_conflicts
        )
    }
}

impl Peer {
    /// What a node says of its one peer; none: it does not know the question.
    pub(super) async fn of(admin: &Caller) -> anyhow::Result<Option<Peer>> {
        let status: Option<Status> = admin.find("/sync/federation/status").await?;
        Ok(status.and_then(|status| status.peers.into_iter().next()))
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.breaker() == "OPEN"
    }

    fn breaker(&self) -> String {
        self.circuit_breaker_state.as_deref().unwrap_or("?").to_uppercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_known() {
        let text = r#"{"enabled":true,"peers":[{"name":"cloud","reachable":false,"circuitBreakerState":"open","pending":214}]}"#;
        let status: Status = serde_json::from_str(text).expect("a status");
        let peer = status.peers.into_iter().next();
        assert!(peer.as_ref().is_some_and(Peer::is_given_up));
        let look = Look { sales: 312, debts: 14, open_conflicts: 1, peer };
        assert_eq!(
            look.line("shop"),
            "shop    312 sales   14 debts  1 to decide  breaker OPEN        214 events wait for the peer"
        );
        let unknown = Look { peer: None, ..look }.line("cloud");
        assert!(
            unknown.contains("breaker ?") && unknown.ends_with("   ? events wait for the peer"),
            "{unknown}"
        );
    }
}
