//! Reading what a peer says of the events that it was sent.
//!
//! Only what it names counts. Never here: what becomes of an entry then.

use super::Failure;
use std::collections::HashMap;
use uuid::Uuid;
use velox_protocol::federation::{NodeIdentity, RelayAnswer};
use velox_store::RelayEntry;

/// Longest text of a refusal that is kept: it is the peer's.
const MAX_REASON: usize = 500;

/// A well-formed answer.
pub(super) struct Verdict(RelayAnswer);

/// What became of the events of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relayed {
    /// The peer has them.
    pub accepted: Vec<(Uuid, String)>,
    /// Of accepted ones, by event: hex SHA-256 of the payload that the peer has.
    pub hashes: HashMap<String, String>,
    /// The peer refuses them; with its reason.
    pub refused: Vec<(Uuid, String, String)>,
    /// The peer does not name them.
    pub unnamed: Vec<(Uuid, String)>,
    /// Who has answered, where it says so.
    pub by: Option<NodeIdentity>,
}

impl Verdict {
    pub(super) fn read(body: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(body)
            .map(Verdict)
            .map_err(|_| Failure::Malformed("it is no answer to a relay"))
    }

    /// A form that is refused refuses its event.
    pub(super) fn of(self, entries: &[RelayEntry]) -> Relayed {
        let by = NodeIdentity::told(self.0.node_id.as_deref(), self.0.incarnation.as_deref());
        let refused: HashMap<String, String> = self
            .0
            .rejected
            .into_iter()
            .map(|refused| (refused.event_id, reason(&refused.code, &refused.message)))
            .collect();
        let mut accepted: HashMap<String, Option<String>> =
            self.0.duplicates.into_iter().map(|event_id| (event_id, None)).collect();
        accepted.extend(
            self.0.accepted.into_iter().chain(self.0.conflicted).map(|a| (a.event_id, a.payload_hash)),
        );
        let mut relayed = Relayed { by, ..Relayed::default() };
        for entry in entries {
            let id = (entry.store_id, entry.event_id.clone());
            if let Some(reason) = refused.get(&entry.event_id) {
                relayed.refused.push((id.0, id.1, reason.clone()));
            } else if let Some(hash) = accepted.get(&entry.event_id) {
                let sound = hash.as_ref().filter(|hash| hash.len() == 64 && hash.is_ascii());
                relayed.hashes.extend(sound.map(|hash| (entry.event_id.clone(), hash.clone())));
                relayed.accepted.push(id);
            } else {
                relayed.unnamed.push(id);
            }
        }
        relayed
    }
}

fn reason(code: &str, message: &str) -> String {
    let text: String = format!("{code}: {message}").chars().filter(|c| !c.is_control()).collect();
    text.chars().take(MAX_REASON).collect()
}
