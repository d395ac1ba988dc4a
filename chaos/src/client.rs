//! Clients: tills that sell, and send each push until it is answered, as v1's do.
//!
//! A push that was not answered may have been stored: its outcome is unknown, and it is sent again. Now and then one
//! that was answered is sent again, too, to its own node or another one. Never here: faults.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::cluster::Caller;
use crate::history::{History, Outcome, What};
use crate::measure;
use crate::till::{Kind, Push, Till};

/// How long a till waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two tries of a push.
const AGAIN_AFTER: Duration = Duration::from_millis(150);
/// Longest time until a push is answered: whatever was done to the node is undone by then.
const DELIVERY_LIMIT: Duration = Duration::from_secs(120);
/// Longest pause between two pushes, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 60;
/// Most events of a push.
const MOST_EVENTS: usize = 6;
/// One push in this many is sent again though it was answered.
const REPEATS_ONE_IN: u32 = 12;

/// A node as a till knows it: its pods, with the till's token.
#[derive(Debug, Clone)]
pub struct Home {
    /// The node.
    pub node: String,
    /// Of the same node.
    pub pods: Vec<Caller>,
}

/// A till and whom it speaks to.
#[derive(Debug)]
pub struct Client {
    till: Till,
    device: String,
    homes: Vec<Home>,
    /// Which pod is tried next.
    turn: usize,
    rng: StdRng,
    history: Arc<History>,
}

impl Client {
    /// A till whose own node is the first of these.
    pub fn new(till: Till, homes: Vec<Home>, rng: &mut StdRng, history: Arc<History>) -> Self {
        let device = till.device_id.to_string();
        Client { till, device, homes, turn: 0, rng: StdRng::from_rng(rng), history }
    }

    /// Makes a push of events of these kinds, and writes it down as written.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) fn write_of(&mut self, kinds: &[Kind]) -> Result<Push> {
        let push = self.till.push_of(kinds);
        self.history.write(&self.device, &push)?;
        Ok(push)
    }

    fn write(&mut self, events: usize) -> Result<Push> {
        let push = self.till.push(events);
        self.history.write(&self.device, &push)?;
        Ok(push)
    }

    /// Sends what a day begins with: its cash session and, where wanted, the shop's products.
    ///
    /// # Errors
    /// Where it is not answered in time.
    pub async fn open(&mut self, with_products: bool) -> Result<()> {
        let mut pushes = vec![self.till.opening()];
        if with_products {
            pushes.push(self.till.products());
        }
        for push in pushes {
            self.history.write(&self.device, &push)?;
            self.deliver(&push).await?;
        }
        Ok(())
    }

    /// Sells until it is told to stop; then all that it has written is answered.
    ///
    /// # Errors
    /// Where a push is not answered in time.
    pub async fn sell(&mut self, stop: watch::Receiver<bool>) -> Result<()> {
        while !*stop.borrow() {
            let events = self.rng.random_range(1..=MOST_EVENTS);
            let push = self.write(events)?;
            self.deliver(&push).await?;
            if self.rng.random_ratio(1, REPEATS_ONE_IN) {
                let home = self.rng.random_range(0..self.homes.len());
                self.send(home, &push, PATIENCE).await;
            }
            sleep(Duration::from_millis(self.rng.random_range(0..LONGEST_PAUSE_MS))).await;
        }
        Ok(())
    }

    /// Sends a push until it is answered.
    ///
    /// # Errors
    /// Where that is not in time.
    pub async fn deliver(&mut self, push: &Push) -> Result<()> {
        let began = measure::now();
        while !matches!(self.send(0, push, PATIENCE).await, Outcome::Ok { .. }) {
            let device = &self.device;
            ensure!(
                began.elapsed() < DELIVERY_LIMIT,
                "a push of till {device} was not answered in two minutes"
            );
            sleep(AGAIN_AFTER).await;
        }
        Ok(())
    }

    /// Sends a push once, to one of its homes.
    pub async fn send(&mut self, home: usize, push: &Push, patience: Duration) -> Outcome {
        let home = &self.homes[home];
        let pod = &home.pods[self.turn % home.pods.len()];
        self.turn += 1;
        let asked_ms = self.history.now_ms();
        let called = timeout(patience, pod.call("POST", "/sync/push", &push.body)).await;
        let outcome = match called {
            Ok(Ok(reply)) => read(reply.status, &reply.text),
            // What did not come in time may still be stored.
            Ok(Err(_)) | Err(_) => Outcome::Unknown { status: None },
        };
        self.history.add(What::Push {
            device: self.device.clone(),
            node: home.node.clone(),
            asked_ms,
            event_ids: push.event_ids.clone(),
            outcome: outcome.clone(),
        });
        outcome
    }
}

fn read(status: u16, text: &str) -> Outcome {
    let ids = |list: &Value| {
        let items = list.as_array().into_iter().flatten();
        items.filter_map(|item| item["event_id"].as_str()).map(str::to_owned).collect()
    };
    match (status, serde_json::from_str::<Value>(text)) {
        (200, Ok(answer)) => {
            Outcome::Ok { accepted: ids(&answer["accepted"]), rejected: ids(&answer["rejected"]) }
        }
        // Refused before anything is read of them.
        (401 | 403 | 413 | 429, _) => Outcome::Fail { status },
        _ => Outcome::Unknown { status: Some(status) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_ok_fail_or_unknown() {
        let answer = r#"{"accepted":[{"event_id":"a","seq":1}],"rejected":[{"event_id":"b"}]}"#;
        let ok = Outcome::Ok { accepted: vec!["a".into()], rejected: vec!["b".into()] };
        assert_eq!(read(200, answer), ok);
        assert_eq!(read(200, "<html>"), Outcome::Unknown { status: Some(200) });
        assert_eq!(read(503, "{}"), Outcome::Unknown { status: Some(503) });
        assert_eq!(read(429, "{}"), Outcome::Fail { status: 429 });
    }
}
