//! What goes wrong with single requests: which of them, how, and how often.
//!
//! Never here: what happens to whole connections, or the doing of it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::journal::EntryId;
use super::message::{Request, Response};

/// An answer that no upstream gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, without those of its length.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// It breaks off in the middle: the length of the whole is told, half of it comes.
    pub half: bool,
}

/// Changes an answer of the upstream on its way back.
#[derive(Clone)]
pub struct Alteration(Arc<dyn Fn(&mut Answer) + Send + Sync>);

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The upstream is not asked; this is the answer.
    Answer(Answer),
    /// The upstream is not asked, and the client never hears anything.
    Silence,
    /// The upstream is not asked; the client's connection breaks.
    LoseRequest,
    /// The upstream has done it; the client's connection breaks.
    LoseAnswer,
    /// The upstream has done it; the client gets half of the answer before its connection breaks.
    HalfAnswer,
    /// The upstream has done it; the client gets its answer changed.
    Alter(Alteration),
    /// Delivered twice, one after the other. The client gets the first answer, after both have been given.
    Duplicate,
    /// Kept back while its client's connection breaks, and delivered after the next request that this rule fits.
    Reorder,
    /// Passes, and a copy of it is kept for [`Link::replay`](super::Link::replay).
    Keep,
    /// Passes after this time.
    Slow(Duration),
}

/// A fault, and the requests that it happens to: all of them, unless narrowed.
#[derive(Debug, Clone)]
pub struct Rule {
    fault: Fault,
    method: Option<String>,
    path: String,
    body: Option<String>,
    times: Option<u64>,
}

/// Names a rule of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(u64);

impl Answer {
    /// An empty one.
    pub fn new(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Vec::new(), half: false }
    }

    /// A 200 with this JSON.
    pub fn json(body: &str) -> Self {
        Answer::new(200).header("content-type", "application/json").body(body)
    }

    /// A 200 with a page for people, as a captive portal gives it.
    pub fn html() -> Self {
        let page = "<!DOCTYPE html><html><body><h1>Willkommen im WLAN</h1></body></html>";
        Answer::new(200).header("content-type", "text/html").body(page)
    }

    /// A redirect with this status, such as 302 or 307.
    pub fn redirect(status: u16, location: &str) -> Self {
        Answer::new(status).header("location", location)
    }

    /// With another header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Of which half comes.
    #[must_use]
    pub fn half(mut self) -> Self {
        self.half = true;
        self
    }

    /// As it goes over the wire; half of it where it is to be half.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} Faulty\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        if self.half {
            // Of an answer without a body, half of its head.
            let half = if self.body.is_empty() {
                bytes.len() / 2
            } else {
                bytes.len() - self.body.len().div_ceil(2)
            };
            bytes.truncate(half);
        }
        bytes
    }
}

impl From<&Response> for Answer {
    /// The body plain, and no headers that tell how it was framed.
    fn from(response: &Response) -> Self {
        const FRAMING: [&str; 4] = ["content-length", "transfer-encoding", "content-encoding", "connection"];
        let kept =
            |(name, _): &&(String, String)| !FRAMING.iter().any(|known| name.eq_ignore_ascii_case(known));
        Answer {
            status: response.status,
            headers: response.headers.iter().filter(kept).cloned().collect(),
            body: response.body.clone(),
            half: false,
        }
    }
}

impl Fault {
    /// [`Fault::Alter`] by a function.
    pub fn alter(change: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Fault::Alter(Alteration(Arc::new(change)))
    }

    /// Its name in the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Fault::Answer(_) => "answer",
            Fault::Silence => "silence",
            Fault::LoseRequest => "lose request",
            Fault::LoseAnswer => "lose answer",
            Fault::HalfAnswer => "half answer",
            Fault::Alter(_) => "alter",
            Fault::Duplicate => "duplicate",
            Fault::Reorder => "reorder",
            Fault::Keep => "keep",
            Fault::Slow(_) => "slow",
        }
    }
}

impl Alteration {
    pub(super) fn of(&self, response: &Response) -> Answer {
        let mut answer = Answer::from(response);
        (self.0)(&mut answer);
        answer
    }
}

impl fmt::Debug for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alteration")
    }
}

impl Rule {
    /// This fault, for every request.
    pub fn new(fault: Fault) -> Self {
        Rule { fault, method: None, path: String::new(), body: None, times: None }
    }

    /// Only of this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only where the path, query included, begins so.
    #[must_use]
    pub fn path(mut self, beginning: &str) -> Self {
        beginning.clone_into(&mut self.path);
        self
    }

    /// Only where the body, inflated, contains this text.
    #[must_use]
    pub fn body(mut self, text: &str) -> Self {
        self.body = Some(text.to_owned());
        self
    }

    /// Only so many times; later requests pass.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    fn fits(&self, request: &Request) -> bool {
        let contains = |text: &String| {
            text.is_empty() || request.body.windows(text.len()).any(|part| part == text.as_bytes())
        };
        self.method.as_ref().is_none_or(|method| *method == request.method)
            && request.path.starts_with(&self.path)
            && self.body.as_ref().is_none_or(contains)
    }
}

/// What is to be done with a request.
#[derive(Debug)]
pub(super) enum Verdict {
    Pass,
    /// Passes, and after it what it was to overtake.
    Release(Held),
    /// Was kept back, until its [`Verdict::Release`].
    Hold,
    Fault(Fault),
}

/// A request that is kept back.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) request: Request,
    pub(super) entry: EntryId,
}

#[derive(Debug)]
struct Active {
    id: RuleId,
    rule: Rule,
    hits: u64,
    held: Option<Held>,
}

/// The rules of a link, in the order of their coming; the first that fits decides.
#[derive(Debug, Default)]
pub(super) struct Rules(Mutex<(u64, Vec<Active>)>);

impl Rules {
    pub(super) fn add(&self, rule: Rule) -> RuleId {
        let mut rules = self.lock();
        rules.0 += 1;
        let id = RuleId(rules.0);
        rules.1.push(Active { id, rule, hits: 0, held: None });
        id
    }

    /// How many requests a rule has met; a removed one has met none.
    pub(super) fn hits(&self, id: RuleId) -> u64 {
        self.lock().1.iter().find(|active| active.id == id).map_or(0, |active| active.hits)
    }

    pub(super) fn remove(&self, id: RuleId) {
        self.lock().1.retain(|active| active.id != id);
    }

    pub(super) fn clear(&self) {
        self.lock().1.clear();
    }

    /// Decides on a request, and counts it.
    pub(super) fn judge(&self, request: &Request, entry: EntryId) -> Verdict {
        for active in &mut self.lock().1 {
            if !active.rule.fits(request) {
                continue;
            }
            if let Some(held) = active.held.take() {
                return Verdict::Release(held);
            }
            if active.rule.times.is_some_and(|times| active.hits >= times) {
                continue;
            }
            active.hits += 1;
            if matches!(active.rule.fault, Fault::Reorder) {
                active.held = Some(Held { request: request.clone(), entry });
                return Verdict::Hold;
            }
            return Verdict::Fault(active.rule.fault.clone());
        }
        Verdict::Pass
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, Vec<Active>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
