//! Faults that an operator injects into actors by name (`POST /chaos/faults`).
//!
//! Here live the registry, its wire form and what each kind of fault does when it strikes. Never here: who may set a
//! fault (the HTTP surface), and when an actor asks for one (the message envelope, or the actor itself where a fault
//! counts per piece of work and not per message).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// How long a `delay` lasts when the request names no `delay_ms`: long enough to show in any latency figure, short
/// enough to stay below every time-out of the node.
pub const DEFAULT_DELAY: Duration = Duration::from_millis(500);

/// Longest `delay_ms` that is taken; whoever wants more means `hang`.
pub const MAX_DELAY: Duration = Duration::from_secs(600);

/// Most actors that can carry a fault at once; far above the number of actors of any tree.
pub const MAX_FAULTS: usize = 1_000;

/// What an injected fault does to the actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The actor panics and is restarted by its supervisor.
    Panic,
    /// The work fails with [`InjectedFault`], the actor lives on.
    Error,
    /// The work begins late.
    Delay,
    /// The work never ends.
    Hang,
    /// The work is thrown away without an answer.
    Drop,
}

/// One injected fault, as it stands in the JSON of `/chaos/faults`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Name of the actor, as in `/admin/actors`.
    pub actor: String,
    /// What happens.
    #[serde(rename = "fault")]
    pub kind: FaultKind,
    /// How often it strikes before it is spent; in a list, how often it still will. Absent: until cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Chance of striking at each opportunity, 0 to 1. Absent: always. A miss does not use up `times`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Milliseconds a `delay` takes. Absent: [`DEFAULT_DELAY`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

/// Why a fault was not taken into the registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The node runs without `--chaos`.
    #[error("fault injection is off: start the node with --chaos")]
    Disabled,
    /// A field is out of range.
    #[error("{field} must be {expected}")]
    Invalid {
        /// The field's name in the JSON.
        field: &'static str,
        /// What would have been right.
        expected: &'static str,
    },
    /// Too many actors carry a fault.
    #[error("at most {MAX_FAULTS} faults can be set at once")]
    TooMany,
}

/// The error that work ends with when an `error` or a `drop` struck it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("injected {} in {actor}", if *.dropped { "drop" } else { "error" })]
pub struct InjectedFault {
    /// The actor that was struck.
    pub actor: String,
    /// True for a `drop`: nobody is to get an answer, not even a bad one.
    pub dropped: bool,
}

/// A fault that was taken from the registry and has yet to strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAction {
    /// See [`FaultKind::Panic`].
    Panic,
    /// See [`FaultKind::Error`].
    Error,
    /// See [`FaultKind::Delay`].
    Delay(Duration),
    /// See [`FaultKind::Hang`].
    Hang,
    /// See [`FaultKind::Drop`].
    Drop,
}

/// The registry: at most one fault an actor. Clones share it.
#[derive(Clone, Default)]
pub struct Faults {
    // None in a node without --chaos, so that the check in the hot path is one branch.
    shared: Option<Arc<Shared>>,
}

struct Shared {
    // Whether any fault is set: keeps the lock out of the hot path of a node with --chaos and no fault.
    armed: AtomicBool,
    table: Mutex<Table>,
}

struct Table {
    faults: BTreeMap<String, Fault>,
    random: StdRng,
}

impl Faults {
    /// The registry of a node started without `--chaos`: refuses every fault.
    #[must_use]
    pub fn disabled() -> Self {
        Self::default()
    }

    /// An empty registry whose probabilities are drawn from `seed`, so that a run can be repeated.
    #[must_use]
    pub fn enabled(seed: u64) -> Self {
        let table = Table { faults: BTreeMap::new(), random: StdRng::seed_from_u64(seed) };
        Self { shared: Some(Arc::new(Shared { armed: AtomicBool::new(false), table: Mutex::new(table) })) }
    }

    /// Whether faults can be set at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.shared.is_some()
    }

    /// Sets a fault; it replaces the one its actor had.
    pub fn set(&self, fault: Fault) -> Result<(), FaultError> {
        let shared = self.shared.as_ref().ok_or(FaultError::Disabled)?;
        fault.check()?;
        let mut table = shared.lock();
        if table.faults.len() >= MAX_FAULTS && !table.faults.contains_key(&fault.actor) {
            return Err(FaultError::TooMany);
        }
        table.faults.insert(fault.actor.clone(), fault);
        shared.armed.store(true, Ordering::Release);
        Ok(())
    }

    /// Removes every fault. Work that already hangs stays so until its actor is restarted.
    pub fn clear(&self) {
        if let Some(shared) = &self.shared {
            let mut table = shared.lock();
            table.faults.clear();
            shared.armed.store(false, Ordering::Release);
        }
    }

    /// The faults that can still strike, by actor, with their remaining times.
    #[must_use]
    pub fn list(&self) -> Vec<Fault> {
        self.shared
            .as_ref()
            .map(|shared| shared.lock().faults.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Takes what is to strike `actor` now, using up one of its times.
    #[must_use]
    pub fn take(&self, actor: &str) -> Option<FaultAction> {
        let shared = self.shared.as_ref()?;
        if !shared.armed.load(Ordering::Acquire) {
            return None;
        }
        shared.take(actor)
    }

    /// [`take`](Self::take), then let it strike.
    ///
    /// # Panics
    /// When the fault is a `panic`.
    pub async fn strike(&self, actor: &str) -> Result<(), InjectedFault> {
        match self.take(actor) {
            Some(action) => action.strike(actor).await,
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("enabled", &self.is_enabled()).field("faults", &self.list()).finish()
    }
}

impl FaultAction {
    /// Does to the calling task what the fault says: returns late, with an error, or never.
    ///
    /// # Panics
    /// When the fault is a `panic`.
    pub async fn strike(self, actor: &str) -> Result<(), InjectedFault> {
        tracing::warn!(actor.name = actor, fault = ?self, "injected fault strikes");
        match self {
            Self::Panic => panic!("injected panic in {actor}"),
            Self::Error => Err(InjectedFault { actor: actor.to_owned(), dropped: false }),
            Self::Drop => Err(InjectedFault { actor: actor.to_owned(), dropped: true }),
            Self::Hang => std::future::pending().await,
            Self::Delay(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
        }
    }
}

impl Fault {
    fn check(&self) -> Result<(), FaultError> {
        let invalid = |field, expected| Err(FaultError::Invalid { field, expected });
        if self.actor.is_empty() {
            return invalid("actor", "the name of an actor");
        }
        if self.times == Some(0) {
            return invalid("times", "at least 1");
        }
        // Written so that NaN is out of range too.
        if !self.probability.is_none_or(|p| (0.0..=1.0).contains(&p)) {
            return invalid("probability", "from 0 to 1");
        }
        if self.delay_ms.is_some_and(|ms| Duration::from_millis(ms) > MAX_DELAY) {
            return invalid("delay_ms", "at most 600000");
        }
        Ok(())
    }

    fn action(&self) -> FaultAction {
        match self.kind {
            FaultKind::Panic => FaultAction::Panic,
            FaultKind::Error => FaultAction::Error,
            FaultKind::Delay => {
                FaultAction::Delay(self.delay_ms.map_or(DEFAULT_DELAY, Duration::from_millis))
            }
            FaultKind::Hang => FaultAction::Hang,
            FaultKind::Drop => FaultAction::Drop,
        }
    }
}

impl Shared {
    fn take(&self, actor: &str) -> Option<FaultAction> {
        let mut guard = self.lock();
        let Table { faults, random } = &mut *guard;
        let fault = faults.get_mut(actor)?;
        // The closed form draws nothing for "always", so a seed means the same run with and without such faults.
        if fault.probability.is_some_and(|p| !random.random_bool(p)) {
            return None;
        }
        let action = fault.action();
        if let Some(left) = &mut fault.times {
            *left -= 1;
            if *left == 0 {
                faults.remove(actor);
                self.armed.store(!faults.is_empty(), Ordering::Release);
            }
        }
        Some(action)
    }

    // A panic cannot leave the table half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn fault(kind: FaultKind, times: Option<u32>) -> Fault {
        Fault { actor: "projector.debt".into(), kind, times, probability: None, delay_ms: None }
    }

    #[test]
    fn the_wire_form_is_the_specified_one() {
        let text = r#"{"actor":"projector.debt","fault":"delay","times":2,"probability":0.5,"delay_ms":20}"#;
        let read: Fault = serde_json::from_str(text).unwrap();
        assert_eq!((read.kind, read.delay_ms), (FaultKind::Delay, Some(20)));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        let short = r#"{"actor":"relay.b","fault":"hang"}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Fault>(short).unwrap()).unwrap(), short);
        assert!(serde_json::from_str::<Fault>(r#"{"actor":"a","fault":"explode"}"#).is_err());
    }

    #[test]
    fn a_fault_strikes_its_actor_as_often_as_told() {
        let faults = Faults::enabled(1);
        faults.set(fault(FaultKind::Error, Some(2))).unwrap();
        assert_eq!(faults.take("projector.sale"), None);
        assert_eq!(faults.take("projector.debt"), Some(FaultAction::Error));
        assert_eq!(faults.list()[0].times, Some(1));
        assert_eq!(faults.take("projector.debt"), Some(FaultAction::Error));
        assert_eq!((faults.take("projector.debt"), faults.list().len()), (None, 0));
    }

    #[test]
    fn a_new_fault_replaces_and_clear_removes() {
        let faults = Faults::enabled(1);
        faults.set(fault(FaultKind::Error, None)).unwrap();
        faults.clone().set(fault(FaultKind::Hang, None)).unwrap();
        assert_eq!((faults.list().len(), faults.take("projector.debt")), (1, Some(FaultAction::Hang)));
        faults.clear();
        assert_eq!(faults.take("projector.debt"), None);
    }

    #[test]
    fn probability_is_kept_and_a_miss_uses_nothing_up() {
        let faults = Faults::enabled(7);
        faults
            .set(Fault { probability: Some(0.25), times: Some(100_000), ..fault(FaultKind::Drop, None) })
            .unwrap();
        let hits = (0..4_000).filter(|_| faults.take("projector.debt").is_some()).count();
        assert!((800..1_200).contains(&hits), "{hits} of 4000 struck at a chance of 0.25");
        assert_eq!(faults.list()[0].times, Some(100_000 - u32::try_from(hits).unwrap()));
    }

    #[test]
    fn nonsense_and_a_node_without_chaos_are_refused() {
        let faults = Faults::enabled(1);
        for p in [f64::NAN, -0.1, 1.1] {
            let refused = faults.set(Fault { probability: Some(p), ..fault(FaultKind::Drop, None) });
            assert!(matches!(refused, Err(FaultError::Invalid { field: "probability", .. })), "{p}");
        }
        assert!(faults.set(fault(FaultKind::Drop, Some(0))).is_err());
        assert!(faults.set(Fault { delay_ms: Some(u64::MAX), ..fault(FaultKind::Delay, None) }).is_err());
        assert_eq!(Faults::disabled().set(fault(FaultKind::Drop, None)), Err(FaultError::Disabled));
        assert_eq!(Faults::disabled().take("projector.debt"), None);
    }

    #[actix::test]
    async fn each_kind_strikes_in_its_way() {
        let faults = Faults::enabled(1);
        let strike = |kind| {
            faults.set(Fault { delay_ms: Some(1), ..fault(kind, Some(1)) }).unwrap();
            std::panic::AssertUnwindSafe(faults.strike("projector.debt")).catch_unwind()
        };
        assert_eq!(strike(FaultKind::Delay).await.unwrap(), Ok(()));
        assert_eq!(
            strike(FaultKind::Error).await.unwrap().unwrap_err().to_string(),
            "injected error in projector.debt"
        );
        assert!(strike(FaultKind::Drop).await.unwrap().unwrap_err().dropped);
        assert!(strike(FaultKind::Panic).await.is_err());
        assert!(strike(FaultKind::Hang).now_or_never().is_none());
        assert_eq!(faults.strike("projector.debt").await, Ok(()));
    }
}
