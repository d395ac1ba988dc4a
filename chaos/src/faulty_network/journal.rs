//! What went over a link: the last requests one by one, and everything by numbers.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::message::Request;

/// Requests that are remembered one by one; older ones are only counted.
const REMEMBERED: usize = 10_000;

/// A request that was read whole from a client, and what became of it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// What was done to it; none: it passed.
    pub fault: Option<&'static str>,
    /// How often the upstream got it.
    pub deliveries: u32,
    /// What the upstream answered, the last time.
    pub upstream_status: Option<u16>,
    /// What the client was answered.
    pub status: Option<u16>,
    /// Bytes of it that the upstream got, head included.
    pub bytes_there: u64,
    /// Bytes of an answer that the client got, head included.
    pub bytes_back: u64,
}

/// Everything that a link carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that clients made, those of a cut link too.
    pub connections: u64,
    /// Requests that were read whole.
    pub requests: u64,
    /// Times that the upstream got one.
    pub deliveries: u64,
    /// Bytes that the upstream got.
    pub bytes_there: u64,
    /// Bytes that clients got.
    pub bytes_back: u64,
}

/// Names a passage of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryId(u64);

#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    traffic: Traffic,
    passages: VecDeque<Passage>,
    /// Number of the first passage that is still there.
    first: u64,
}

impl Journal {
    pub(super) fn connected(&self) {
        self.lock().traffic.connections += 1;
    }

    pub(super) fn begin(&self, request: &Request) -> EntryId {
        let mut contents = self.lock();
        contents.traffic.requests += 1;
        if contents.passages.len() == REMEMBERED {
            contents.passages.pop_front();
            contents.first += 1;
        }
        contents.passages.push_back(Passage {
            method: request.method.clone(),
            path: request.path.clone(),
            fault: None,
            deliveries: 0,
            upstream_status: None,
            status: None,
            bytes_there: 0,
            bytes_back: 0,
        });
        EntryId(contents.first + contents.passages.len() as u64 - 1)
    }

    pub(super) fn fault(&self, entry: EntryId, name: &'static str) {
        self.lock().with(entry, |passage| passage.fault = Some(name));
    }

    pub(super) fn delivered(&self, entry: EntryId, bytes: usize) {
        let mut contents = self.lock();
        contents.traffic.deliveries += 1;
        contents.traffic.bytes_there += bytes as u64;
        contents.with(entry, |passage| {
            passage.deliveries += 1;
            passage.bytes_there += bytes as u64;
        });
    }

    pub(super) fn upstream_answered(&self, entry: EntryId, status: u16) {
        self.lock().with(entry, |passage| passage.upstream_status = Some(status));
    }

    /// The client got so many bytes; with a status: the whole of an answer.
    pub(super) fn answered(&self, entry: EntryId, status: Option<u16>, bytes: usize) {
        let mut contents = self.lock();
        contents.traffic.bytes_back += bytes as u64;
        contents.with(entry, |passage| {
            passage.status = status;
            passage.bytes_back += bytes as u64;
        });
    }

    /// Bytes of something else than HTTP.
    pub(super) fn bytes(&self, there: usize, back: usize) {
        let mut contents = self.lock();
        contents.traffic.bytes_there += there as u64;
        contents.traffic.bytes_back += back as u64;
    }

    pub(super) fn passages(&self) -> Vec<Passage> {
        self.lock().passages.iter().cloned().collect()
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.lock().traffic
    }

    pub(super) fn clear(&self) {
        let mut contents = self.lock();
        // Those on their way keep their numbers and are nobody's.
        contents.first += contents.passages.len() as u64;
        contents.passages.clear();
        contents.traffic = Traffic::default();
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn with(&mut self, entry: EntryId, change: impl FnOnce(&mut Passage)) {
        let place = entry.0.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(passage) = place.and_then(|place| self.passages.get_mut(place)) {
            change(passage);
        }
    }
}
