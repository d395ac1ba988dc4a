//! Reading a body by hand, so that its memory is bounded before it is taken.
//!
//! The bytes of all bodies that are held at once are counted by [`IngestGate`]; the permit goes on
//! with the body until its work is done. Limits count *inflated* bytes, so a compressed bomb is as
//! large as what it makes of itself. Call after the caller is known: a stranger's body is never read.
//! What never will be here: the meaning of a body.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpMessage, HttpRequest,
    http::header::{self, HeaderMap},
    rt::time::timeout,
    web::{Bytes, Payload},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{JSON_LIMIT, Problem, payload_problem};

mod inflate;

use inflate::{Buffer, Stop};

/// Bytes of bodies that the node holds at once, in all requests together.
pub const INGEST_BYTES: usize = 48 * 1024 * 1024;

/// Seconds after which a request that found no room may come again.
const RETRY_AFTER: u32 = 1;

/// One permit of the gate.
const KIB: usize = 1024;

/// The room for bodies. One for the whole node; clones share it.
#[derive(Debug, Clone)]
pub struct IngestGate {
    permits: Arc<Semaphore>,
}

impl Default for IngestGate {
    fn default() -> Self {
        Self::new(INGEST_BYTES)
    }
}

impl IngestGate {
    /// A gate of so many bytes, counted in whole KiB.
    pub fn new(bytes: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(bytes / KIB)) }
    }

    /// Bytes that could be taken now.
    pub fn available(&self) -> usize {
        self.permits.available_permits() * KIB
    }
}

/// The room that one body takes. Dropping it gives the room back, so it travels with the body's work.
#[derive(Debug)]
pub struct IngestPermit {
    gate: IngestGate,
    held: Option<OwnedSemaphorePermit>,
}

impl IngestPermit {
    fn empty(gate: &IngestGate) -> Self {
        Self { gate: gate.clone(), held: None }
    }

    /// Takes so many bytes more, rounded up to KiB; never waits.
    fn grow(&mut self, bytes: usize) -> bool {
        let Ok(count) = u32::try_from(bytes.div_ceil(KIB)) else {
            return false;
        };
        let Ok(more) = Arc::clone(&self.gate.permits).try_acquire_many_owned(count) else {
            return false;
        };
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        true
    }

    /// Bytes held, as counted.
    pub fn bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.num_permits() * KIB)
    }
}

/// The bounds of one kind of body.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Greatest body, inflated; also the greatest as sent, since gzip can be made to grow without
    /// end and yield nothing.
    pub bytes: usize,
    /// How much of a refused body is read on, so that its sender comes to read the answer.
    pub drain: usize,
    /// For the whole body, however it trickles.
    pub deadline: Duration,
}

impl Limits {
    /// A push: 16 MiB, since v1 tills send 500 events and more with each payload twice.
    pub const PUSH: Self =
        Self { bytes: 16 * 1024 * KIB, drain: 32 * 1024 * KIB, deadline: Duration::from_secs(30) };
    /// Any other JSON call.
    pub const JSON: Self = Self { bytes: JSON_LIMIT, ..Self::PUSH };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
}

/// Reads a push's body: JSON, plain or by gzip, at most 16 MiB inflated. Problems: 400 damaged, 408
/// slow or broken off, 413 too large, 415 of another type or encoding, 503 no room.
pub async fn read_push(
    request: &HttpRequest,
    payload: Payload,
    gate: &IngestGate,
) -> Result<(Bytes, IngestPermit), Problem> {
    read(request, payload, gate, Limits::PUSH).await
}

/// Reads and parses the body of a smaller JSON call, for handlers that must know their caller before
/// a body is read; `web::Json` reads while the caller is still being looked up.
pub async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    gate: &IngestGate,
) -> Result<T, Problem> {
    let (body, _permit) = read(request, payload, gate, Limits::JSON).await?;
    serde_json::from_slice(&body)
        .map_err(|_| Problem::bad_request("INVALID_BODY", "The body is not the JSON that this call takes."))
}

/// A body of a peer, with the SHA-256 of it as it was sent.
pub struct SignedBody {
    /// Inflated.
    pub bytes: Bytes,
    /// Its share of the node's memory.
    pub permit: IngestPermit,
    /// Of the bytes as they came, compressed or not.
    pub sha256: [u8; 32],
}

/// Reads a peer's body, of the given media type where there is one. Problems as [`read_push`].
pub async fn read_signed(
    request: &HttpRequest,
    payload: Payload,
    gate: &IngestGate,
    media_type: &str,
) -> Result<SignedBody, Problem> {
    let mut sha = Sha256::new();
    let kind = Kind { media_type, may_be_absent: true };
    let (bytes, permit) =
        read_seen(request, payload, gate, Limits::PUSH, kind, |chunk| sha.update(chunk)).await?;
    Ok(SignedBody { bytes, permit, sha256: sha.finalize().into() })
}

/// Reads a body within bounds. A refused one is read on, unkept, so that the refusal can be read.
pub async fn read(
    request: &HttpRequest,
    payload: Payload,
    gate: &IngestGate,
    limits: Limits,
) -> Result<(Bytes, IngestPermit), Problem> {
    let kind = Kind { media_type: "application/json", may_be_absent: false };
    read_seen(request, payload, gate, limits, kind, |_| ()).await
}

/// What a body has to be.
#[derive(Clone, Copy)]
struct Kind<'a> {
    media_type: &'a str,
    /// A request without a type is taken: it has no body.
    may_be_absent: bool,
}

/// As [`read`]; `see` is shown the bytes as they come.
async fn read_seen(
    request: &HttpRequest,
    mut payload: Payload,
    gate: &IngestGate,
    limits: Limits,
    kind: Kind<'_>,
    mut see: impl FnMut(&[u8]),
) -> Result<(Bytes, IngestPermit), Problem> {
    let work = async {
        let mut seen = 0;
        let mut note = |chunk: &[u8]| {
            seen += chunk.len();
            see(chunk);
            seen
        };
        let refused = match take(request, &mut payload, gate, limits, kind, &mut note).await {
            Ok(read) => return Ok(read),
            Err(Refusal::Broken(problem)) => return Err(problem),
            Err(Refusal::Readable(problem)) => problem,
        };
        drain(&mut payload, limits.drain.saturating_sub(seen)).await;
        Err(refused)
    };
    timeout(limits.deadline, work).await.unwrap_or_else(|_| Err(Problem::request_timeout()))
}

/// Why a body was not taken.
enum Refusal {
    /// The rest can still be read, and is.
    Readable(Problem),
    /// There is no more to read.
    Broken(Problem),
}

async fn take(
    request: &HttpRequest,
    payload: &mut Payload,
    gate: &IngestGate,
    limits: Limits,
    kind: Kind<'_>,
    note: &mut impl FnMut(&[u8]) -> usize,
) -> Result<(Bytes, IngestPermit), Refusal> {
    check_content_type(request, kind).map_err(Refusal::Readable)?;
    let encoding = encoding(request.headers()).map_err(Refusal::Readable)?;
    if declared_length(request.headers()).is_some_and(|length| length > limits.bytes as u64) {
        return Err(Refusal::Readable(Problem::payload_too_large()));
    }
    let mut buffer = Buffer::new(encoding == Encoding::Gzip, limits.bytes, IngestPermit::empty(gate))
        .map_err(|stop| Refusal::Readable(stop_problem(stop)))?;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Refusal::Broken(payload_problem(&error)))?;
        if note(&chunk) > limits.bytes {
            return Err(Refusal::Readable(Problem::payload_too_large()));
        }
        buffer.write(&chunk).map_err(|stop| Refusal::Readable(stop_problem(stop)))?;
    }
    let (body, permit) = buffer.finish().map_err(|stop| Refusal::Broken(stop_problem(stop)))?;
    Ok((Bytes::from(body), permit))
}

fn stop_problem(stop: Stop) -> Problem {
    match stop {
        Stop::TooLarge => Problem::payload_too_large(),
        Stop::NoRoom => Problem::unavailable("OVERLOADED", RETRY_AFTER),
        Stop::Damaged => Problem::bad_request("INVALID_BODY", "The body is not sound gzip."),
    }
}

/// Reads on and keeps nothing, up to a bound.
async fn drain(payload: &mut Payload, mut budget: usize) {
    while let Some(Ok(chunk)) = payload.next().await {
        match budget.checked_sub(chunk.len()) {
            Some(rest) => budget = rest,
            None => return,
        }
    }
}

/// The call's own type with any parameters. Nothing else, also not nothing: a form or a text that
/// happens to look like JSON was not meant for this call.
fn check_content_type(request: &HttpRequest, kind: Kind<'_>) -> Result<(), Problem> {
    let named = request.headers().get_all(header::CONTENT_TYPE).count();
    let is_right = request.content_type().trim().eq_ignore_ascii_case(kind.media_type);
    if named == 1 && is_right || named == 0 && kind.may_be_absent {
        return Ok(());
    }
    Err(Problem::unsupported_media_type())
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let mut values = headers.get_all(header::CONTENT_ENCODING);
    let Some(value) = values.next() else {
        return Ok(Encoding::Identity);
    };
    if values.next().is_some() {
        return Err(Problem::unsupported_encoding());
    }
    match value.to_str().unwrap_or("?").trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        _ => Err(Problem::unsupported_encoding()),
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
