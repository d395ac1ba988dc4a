//! Asking a v1 peer for the debts that payments wait for.
//!
//! v1 gives the debt of a sale on credit a random id that no event bears, and its tills pay that id. A replay brings
//! the debt with its sale, and so the payment finds both. Never here: what a payment counts for.

use super::{Relay, Wire};
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;
use velox_protocol::v1::Kind;
use velox_store::Awaited;

/// How soon the same debt is asked for again; twice as long after each time.
pub(super) const AGAIN: Duration = Duration::from_secs(60);
/// Longest wait until then: a debt that the peer does not know may be made there yet.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Most debts of one look.
const AT_ONCE: u32 = 500;

/// What was asked for, and when it may be again.
#[derive(Debug, Default)]
pub(super) struct AskedDebts {
    asking: bool,
    again: bool,
    asked: HashMap<Awaited, (Instant, Duration)>,
}

impl AskedDebts {
    /// Those that are to be asked for now; what nobody waits for any more is forgotten.
    fn due(&mut self, awaited: Vec<Awaited>, now: Instant) -> BTreeMap<Uuid, Vec<Uuid>> {
        self.asked.retain(|debt, _| awaited.contains(debt));
        let mut due: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for debt in awaited {
            let wait = match self.asked.get(&debt) {
                Some((next, _)) if now < *next => continue,
                Some((_, wait)) => (*wait * 2).min(LONGEST),
                None => AGAIN,
            };
            self.asked.insert(debt, (now + wait, wait));
            due.entry(debt.store_id).or_default().push(debt.debt_id);
        }
        due
    }
}

impl Relay {
    /// Looks which payments wait and asks for their debts. Nothing of it is an exchange of the breaker, but while that
    /// is not closed the peer is left alone.
    pub(super) fn ask_debts(&mut self, ctx: &mut Context<Self>) {
        let Wire::V1(_) = &self.wire else { return };
        if self.draining || !self.restored || self.breaker.state().name() != "CLOSED" {
            return;
        }
        if self.debts.asking {
            self.debts.again = true;
            return;
        }
        (self.debts.asking, self.debts.again) = (true, false);
        let store = self.deps.store.clone();
        let stores: Option<Vec<Uuid>> =
            self.peer().stores.as_ref().map(|stores| stores.iter().copied().collect());
        let look = async move { store.awaited_debts(stores.as_deref(), AT_ONCE).await };
        ctx.spawn(look.into_actor(self).map(|found, me, ctx| match found {
            Ok(awaited) => {
                let due = me.debts.due(awaited, Instant::now());
                me.ask(due, ctx);
            }
            Err(error) => {
                tracing::warn!(%error, "payments that wait could not be looked for");
                me.debts.asking = false;
            }
        }));
    }

    fn ask(&mut self, due: BTreeMap<Uuid, Vec<Uuid>>, ctx: &mut Context<Self>) {
        let (Wire::V1(client), name) = (self.wire.clone(), self.peer().name.clone()) else { return };
        let busy = self.me.stats().begin();
        let alive = self.me.stats().signs_of_life();
        let ask = async move {
            for (store_id, debts) in due {
                alive();
                match client.replay(Kind::Debts, store_id, &debts).await {
                    Ok(answer) => {
                        let (asked, found) = (debts.len(), answer.found);
                        tracing::info!(%store_id, peer = name, asked, found, "debts that payments wait for were asked for");
                    }
                    Err(failure) => {
                        tracing::warn!(%store_id, peer = name, %failure, "debts could not be asked for");
                    }
                }
            }
        };
        ctx.spawn(ask.into_actor(self).map(move |(), me, ctx| {
            busy.done();
            me.debts.asking = false;
            if me.debts.again {
                me.ask_debts(ctx);
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_is_asked_for_at_once_then_after_a_minute_then_ever_later() {
        let debt = |n| Awaited { store_id: Uuid::from_u128(1), debt_id: Uuid::from_u128(n) };
        let (mut debts, began) = (AskedDebts::default(), Instant::now());
        let mut due = |waiting: &[u128], seconds: u64| {
            let waiting = waiting.iter().map(|n| debt(*n)).collect();
            let due = debts.due(waiting, began + Duration::from_secs(seconds));
            due.into_values().flatten().map(|id| id.as_u128()).collect::<Vec<_>>()
        };
        assert_eq!(due(&[1], 0), [1]);
        assert_eq!(due(&[1, 2], 59), [2]);
        assert_eq!(due(&[1, 2], 60), [1]);
        assert_eq!(due(&[1, 2], 179), [2]);
        assert_eq!(due(&[1, 2], 180), [1]);
        // It has come, and another payment waits for it later.
        assert_eq!(due(&[2], 181), [0; 0]);
        assert_eq!(due(&[1, 2], 182), [1]);
    }
}
