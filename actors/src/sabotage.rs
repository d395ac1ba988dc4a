//! A node that is broken on purpose, so that the chaos suites can prove that they notice: see `docs/chaos.md`.
//!
//! Only with the feature `sabotage`, which no release has. Each kind breaks one promise at the border where it is
//! kept, and nothing else. Never here: faults that a sound node survives (see [`crate::fault`]).

use crate::Settings;
use crate::peer::{Failure, Relayed};
use std::str::FromStr;
use velox_store::{Fence, IngestOutcome, NewPush, PushOutcome, RelayClaim};

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// A push is answered before it is stored (INV-1).
    AckBeforeCommit,
    /// What a peer was sent counts as delivered at any 200, whatever its body says (INV-9).
    DeliveredOnAny200,
    /// A lost lease is neither noticed nor compared at a write (INV-8).
    NoFencing,
}

impl FromStr for Sabotage {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "ack-before-commit" => Ok(Sabotage::AckBeforeCommit),
            "delivered-on-any-200" => Ok(Sabotage::DeliveredOnAny200),
            "no-fencing" => Ok(Sabotage::NoFencing),
            _ => Err("must be ack-before-commit, delivered-on-any-200 or no-fencing"),
        }
    }
}

impl Settings {
    fn breaks(&self, promise: Sabotage) -> bool {
        self.sabotage == Some(promise)
    }

    /// What a push is told before anybody knows; `None`: nothing, as it should be.
    pub(crate) fn told_too_early(&self, push: &NewPush) -> Option<PushOutcome> {
        let stored = IngestOutcome::New { absorbed: false, collides: false };
        let events = vec![stored; push.events.len()];
        self.breaks(Sabotage::AckBeforeCommit).then(|| PushOutcome { events, ..PushOutcome::default() })
    }

    /// What a peer is taken to have said.
    pub(crate) fn heard(
        &self,
        answer: Result<Relayed, Failure>,
        claim: &RelayClaim,
    ) -> Result<Relayed, Failure> {
        match answer {
            Ok(_) | Err(Failure::Malformed(_)) if self.breaks(Sabotage::DeliveredOnAny200) => {
                let sent = claim.entries.iter().map(|entry| (entry.store_id, entry.event_id.clone()));
                Ok(Relayed { accepted: sent.collect(), ..Relayed::default() })
            }
            answer => answer,
        }
    }

    /// The fence that a write is sent with.
    pub(crate) fn fence<'a>(&self, fence: &'a Fence) -> Option<&'a Fence> {
        (!self.breaks(Sabotage::NoFencing)).then_some(fence)
    }

    /// Whether a holder goes on when its lease is another's.
    pub(crate) fn ignores_a_lost_lease(&self) -> bool {
        self.breaks(Sabotage::NoFencing)
    }
}
