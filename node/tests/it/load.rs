//! Tills that push without pause and repeat what was not taken, as every till does.

use crate::support::{Client, Till, sale, wait};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// What all tills of a test met.
#[derive(Default)]
pub(crate) struct Load {
    acknowledged: RefCell<BTreeSet<String>>,
    statuses: RefCell<BTreeMap<u16, usize>>,
    taken: Cell<usize>,
    ended: Cell<bool>,
}

impl Load {
    /// Pushes a few sales at a time until the load is ended.
    pub(crate) async fn sell(&self, client: &Client, till: &Till) {
        self.push(client, till, || (0..rand::random_range(1..4)).map(|_| sale()).collect()).await;
    }

    /// Pushes what is made until the load is ended; each push until it is taken.
    pub(crate) async fn push(&self, client: &Client, till: &Till, make: impl Fn() -> Vec<Value>) {
        while !self.ended.get() {
            let events = make();
            wait("a push to be taken", async || self.push_once(client, till, &events).await).await;
        }
    }

    async fn push_once(&self, client: &Client, till: &Till, events: &[Value]) -> bool {
        let Some(answer) = client.reach(till, events).await else {
            return false;
        };
        *self.statuses.borrow_mut().entry(answer.status).or_default() += 1;
        match answer.status {
            200 => {
                let answer = answer.json();
                let accepted = answer["accepted"].as_array().expect("a list");
                assert_eq!(accepted.len(), events.len(), "{answer}");
                let ids = accepted.iter().filter_map(|a| a["event_id"].as_str()).map(str::to_owned);
                self.acknowledged.borrow_mut().extend(ids);
                self.taken.set(self.taken.get() + 1);
                true
            }
            503 => {
                assert!(answer.headers.contains_key("retry-after"), "{}", answer.text);
                false
            }
            other => panic!("a push was answered {other}: {}", answer.text),
        }
    }

    /// Waits until so many more pushes are taken.
    pub(crate) async fn more(&self, pushes: usize) {
        let until = self.taken.get() + pushes;
        wait("more pushes to be taken", async || self.taken.get() >= until).await;
    }

    /// Lets each till finish its push and stop.
    pub(crate) fn end(&self) {
        self.ended.set(true);
    }

    /// Ids of the events that a 200 listed as accepted.
    pub(crate) fn acknowledged(&self) -> BTreeSet<String> {
        self.acknowledged.borrow().clone()
    }

    /// How often a status was answered.
    pub(crate) fn answered(&self, status: u16) -> usize {
        self.statuses.borrow().get(&status).copied().unwrap_or(0)
    }
}
