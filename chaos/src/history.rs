//! The history of a run: what clients asked and what they were told, and which faults were at work, in order.
//!
//! A checker sees nothing else of the clients. Never here: whether any of it is right.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::measure;
use crate::till::Push;

/// An event as its till sent it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sent {
    /// Its id.
    pub event_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What it says.
    pub payload: Value,
}

/// What a client knows of its push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It was answered 200.
    Ok {
        /// Events that are stored, by that answer.
        accepted: Vec<String>,
        /// Events that are refused for good.
        rejected: Vec<String>,
    },
    /// Nothing of it was done: it was refused before.
    Fail {
        /// How.
        status: u16,
    },
    /// Anything may have become of it.
    Unknown {
        /// The answer's status; none: no answer came.
        status: Option<u16>,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum What {
    /// A till wrote events. Each is written once, and sent until it is answered.
    Write {
        /// The till.
        device: String,
        /// Its events.
        events: Vec<Sent>,
    },
    /// A push and what became of it.
    Push {
        /// The till.
        device: String,
        /// Whom it was sent to.
        node: String,
        /// When it was sent.
        asked_ms: u64,
        /// Its events.
        event_ids: Vec<String>,
        /// What became of it.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// A comparison of logs by hand, answered.
    Reconcile {
        /// The node.
        node: String,
        /// Which of its pods.
        pod: usize,
        /// The element of its answer for one store and peer.
        report: Value,
    },
    /// Something was done to the nodes, or undone.
    Fault {
        /// What.
        text: String,
    },
}

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Since the run's beginning; of what took time its end.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// All of it so far. Clients share it.
#[derive(Debug)]
pub struct History {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
}

impl Default for History {
    fn default() -> Self {
        History { began: measure::now(), entries: Mutex::default() }
    }
}

impl History {
    /// Milliseconds since its beginning.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Writes down what has just happened.
    pub fn add(&self, what: What) {
        let at_ms = self.now_ms();
        self.lock().push(Entry { at_ms, what });
    }

    /// [`What::Fault`].
    pub fn fault(&self, text: impl Into<String>) {
        self.add(What::Fault { text: text.into() });
    }

    /// [`What::Write`].
    ///
    /// # Errors
    /// Where the push cannot be read.
    pub fn write(&self, device: &str, push: &Push) -> Result<()> {
        self.add(What::Write { device: device.to_owned(), events: sent(push)? });
        Ok(())
    }

    /// What happened so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// As JSON lines.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let written = || -> Result<()> {
            let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
            for entry in self.lock().iter() {
                serde_json::to_writer(&mut file, entry)?;
                file.write_all(b"\n")?;
            }
            Ok(file.flush()?)
        };
        written().with_context(|| path.display().to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The events of a push.
fn sent(push: &Push) -> Result<Vec<Sent>> {
    let mut body: Value = serde_json::from_str(&push.body).context("a push")?;
    let events = body["events"].as_array_mut().context("a push without events")?;
    let read = events.iter_mut().map(|event| Sent {
        event_id: event["event_id"].as_str().unwrap_or_default().to_owned(),
        event_type: event["type"].as_str().unwrap_or_default().to_owned(),
        payload: event["payload"].take(),
    });
    Ok(read.collect())
}

/// Events that tills wrote, in order.
pub(crate) fn written(entries: &[Entry]) -> impl Iterator<Item = &Sent> {
    let events = entries.iter().map(|entry| match &entry.what {
        What::Write { events, .. } => events.as_slice(),
        _ => &[],
    });
    events.flatten()
}

/// Events that some 200 listed as accepted.
pub(crate) fn accepted(entries: &[Entry]) -> BTreeSet<&str> {
    let ids = entries.iter().map(|entry| match &entry.what {
        What::Push { outcome: Outcome::Ok { accepted, .. }, .. } => accepted.as_slice(),
        _ => &[],
    });
    ids.flatten().map(String::as_str).collect()
}

/// In numbers, for people.
pub(crate) fn summary(entries: &[Entry]) -> Value {
    let (mut ok, mut fail, mut unknown, mut server_errors, mut faults) = (0, 0, 0, 0, 0);
    for entry in entries {
        match &entry.what {
            What::Push { outcome: Outcome::Ok { .. }, .. } => ok += 1,
            What::Push { outcome: Outcome::Fail { .. }, .. } => fail += 1,
            What::Push { outcome: Outcome::Unknown { status }, .. } => {
                unknown += 1;
                server_errors += u64::from(status.is_some_and(|status| status >= 500));
            }
            What::Fault { .. } => faults += 1,
            _ => {}
        }
    }
    json!({
        "events": written(entries).count(), "accepted": accepted(entries).len(), "pushes_ok": ok,
        "pushes_failed": fail, "pushes_unknown": unknown, "answers_5xx": server_errors, "faults": faults,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::till::{Shop, Till};
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    #[test]
    fn a_history_is_saved_a_line_an_entry_with_what_tills_wrote_and_were_told() {
        let mut rng = StdRng::seed_from_u64(1);
        let shop = Shop::new(&mut rng);
        let mut till = Till::new(&shop, measure::wall_clock(), &mut rng);
        let (history, push) = (History::default(), till.push(3));
        history.write("d", &push).expect("a push");
        let outcome = Outcome::Ok { accepted: push.event_ids.clone(), rejected: Vec::new() };
        let event_ids = push.event_ids.clone();
        history.add(What::Push {
            device: "d".into(),
            node: "shop".into(),
            asked_ms: 0,
            event_ids: event_ids.clone(),
            outcome,
        });
        history.fault("kill -9");
        let file = tempfile::NamedTempFile::new().expect("a file");
        history.save(file.path()).expect("a file");
        let text = std::fs::read_to_string(file.path()).expect("a file");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines[0]["events"][2]["event_id"], event_ids[2].as_str());
        assert_eq!((&lines[1]["outcome"], &lines[1]["accepted"]), (&json!("ok"), &json!(event_ids)));
        assert_eq!(lines[2]["text"], "kill -9");
        let entries = history.entries();
        assert_eq!(summary(&entries)["accepted"], 3);
        assert_eq!(written(&entries).count(), 3);
    }
}
