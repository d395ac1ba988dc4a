//! What two nodes say to each other when they compare their logs of one store: a message up, a message down.
//!
//! They first compare digests of years, then of the days of years that differ, then of the buckets of such days
//! (large ones alone), then the forms themselves. Each comparison is a set protocol whose own messages are carried
//! unread. Never here: who may ask for which store, SQL, the set protocol itself.
//!
//! The bytes: version, kind, store (requests alone), then the fields in their order. Numbers are big-endian, lists
//! have their length before them and texts theirs in bytes; a message of the set protocol takes what is left. A new
//! version gets a new first byte, and an old node refuses it.

mod bytes;
mod digest;

pub use digest::{Digest, Digested};

use bytes::{Reader, Writer};
use chrono::NaiveDate;
use uuid::Uuid;

/// The first byte of every message.
pub const VERSION: u8 = 1;
/// Longest message, in bytes: the longest answer with names is well below it.
pub const MAX_MESSAGE: usize = 4 << 20;
/// Most years, days or parts that are asked about at once.
pub const MAX_PARTS: usize = 4_096;
/// Most items that are resolved at once: 128 KiB.
pub const MAX_ITEMS: usize = 4_096;
/// Most events that are named at once.
pub const MAX_NAMES: usize = 4_096;
/// Longest id, in bytes: 255 characters.
const MAX_ID_BYTES: usize = 4 * crate::event::MAX_ID_CHARS;
/// Longest type, in bytes.
const MAX_TYPE_BYTES: usize = 4 * crate::event::MAX_TYPE_CHARS;

/// The last bucket of a day (`event_bucket` of the migrations).
pub const LAST_BUCKET: u16 = 1_023;

/// SHA-256 of one form of an event: what is compared (`event_item` of the migrations).
pub type Item = [u8; 32];

/// Buckets of one day, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The UTC day of the events' own time.
    pub day: NaiveDate,
    /// The first bucket.
    pub low: u16,
    /// The last one.
    pub high: u16,
}

/// An event, with the type of one of its forms.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName {
    /// Its id.
    pub event_id: String,
    /// The form's type.
    pub event_type: String,
}

/// What of the two logs is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Digests of all years.
    Years,
    /// Digests of the days of these years, which ascend.
    Days(Vec<u16>),
    /// Digests of the buckets of these days, which ascend.
    Buckets(Vec<NaiveDate>),
    /// The forms of these parts, which ascend and do not overlap.
    Forms(Vec<Part>),
}

/// What is asked about a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A step of the set protocol.
    Compare {
        /// Of what.
        scope: Scope,
        /// The set protocol's.
        message: Vec<u8>,
    },
    /// Which events these items are forms of.
    Resolve {
        /// Where they lie.
        parts: Vec<Part>,
        /// The items.
        items: Vec<Item>,
    },
    /// The events of these parts, by id and type.
    List {
        /// Which parts.
        parts: Vec<Part>,
        /// The last one that was named before.
        after: Option<EventName>,
    },
    /// To count these days anew: their digests differ though nothing else does.
    Recount {
        /// Which days; they ascend.
        days: Vec<NaiveDate>,
    },
}

/// One message up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whose log.
    pub store_id: Uuid,
    /// What.
    pub ask: Ask,
}

/// One message down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The set protocol's.
    Compared(Vec<u8>),
    /// Of each item that was found its place in the request, and its event. What there was no room for is left out,
    /// so whoever wants it asks again.
    Resolved(Vec<(u16, EventName)>),
    /// The next events.
    Listed {
        /// By id and type.
        names: Vec<EventName>,
        /// There are others after them.
        more: bool,
    },
    /// How many of the days had wrong digests.
    Recounted(u16),
    /// There are more forms than are compared at once, other than the digests say.
    TooMany,
}

/// Why a message cannot be read. Echoes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Of another version than [`VERSION`], or empty.
    #[error("a message of another version")]
    Version,
    /// Of no kind that is known.
    #[error("a message of an unknown kind")]
    Kind,
    /// Over [`MAX_MESSAGE`].
    #[error("a message that is too long")]
    TooLong,
    /// It ends too early, or too late.
    #[error("a message that does not end where it should")]
    Length,
    /// A list is longer than is allowed, or a text is.
    #[error("a list or text that is too long")]
    Bound,
    /// A list does not ascend.
    #[error("a list that does not ascend")]
    Order,
    /// A day or a year that is none of 1 to 9999, a bucket that is none, or no bucket.
    #[error("no such day")]
    Day,
    /// No UTF-8, or NUL.
    #[error("a text that is none")]
    Text,
}

const COMPARE_YEARS: u8 = 1;
const COMPARE_DAYS: u8 = 2;
const COMPARE_BUCKETS: u8 = 3;
const COMPARE_FORMS: u8 = 4;
const RESOLVE: u8 = 5;
const LIST: u8 = 6;
const RECOUNT: u8 = 7;

const COMPARED: u8 = 65;
const RESOLVED: u8 = 66;
const LISTED: u8 = 67;
const RECOUNTED: u8 = 68;
const TOO_MANY: u8 = 69;

impl Request {
    /// The message. Lists beyond the bounds make one that is refused.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match &self.ask {
            Ask::Compare { scope: Scope::Years, .. } => COMPARE_YEARS,
            Ask::Compare { scope: Scope::Days(_), .. } => COMPARE_DAYS,
            Ask::Compare { scope: Scope::Buckets(_), .. } => COMPARE_BUCKETS,
            Ask::Compare { scope: Scope::Forms(_), .. } => COMPARE_FORMS,
            Ask::Resolve { .. } => RESOLVE,
            Ask::List { .. } => LIST,
            Ask::Recount { .. } => RECOUNT,
        };
        let mut to = Writer::new(kind);
        to.put(self.store_id.as_bytes());
        match &self.ask {
            Ask::Compare { scope, message } => {
                match scope {
                    Scope::Years => {}
                    Scope::Days(years) => to.list(years, |to, year| to.put(&year.to_be_bytes())),
                    Scope::Buckets(days) => to.days(days),
                    Scope::Forms(parts) => to.parts(parts),
                }
                to.put(message);
            }
            Ask::Resolve { parts, items } => {
                to.parts(parts);
                to.list(items, |to, item| to.put(item));
            }
            Ask::List { parts, after } => {
                to.parts(parts);
                to.list(after.as_slice(), Writer::name);
            }
            Ask::Recount { days } => to.days(days),
        }
        to.done()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`]: for whatever [`Request::encode`] does not write.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let (kind, mut from) = Reader::open(message)?;
        let store_id = Uuid::from_bytes(from.array()?);
        let scope = match kind {
            COMPARE_YEARS => Some(Scope::Years),
            COMPARE_DAYS => Some(Scope::Days(from.years()?)),
            COMPARE_BUCKETS => Some(Scope::Buckets(from.days()?)),
            COMPARE_FORMS => Some(Scope::Forms(from.parts()?)),
            _ => None,
        };
        let ask = match (scope, kind) {
            (Some(scope), _) => Ask::Compare { scope, message: from.rest() },
            (None, RESOLVE) => {
                let parts = from.parts()?;
                Ask::Resolve { parts, items: from.list(MAX_ITEMS, 32, Reader::array)? }
            }
            (None, LIST) => {
                let parts = from.parts()?;
                Ask::List { parts, after: from.list(1, NAME_BYTES, Reader::name)?.pop() }
            }
            (None, RECOUNT) => Ask::Recount { days: from.days()? },
            (None, _) => return Err(Malformed::Kind),
        };
        from.end()?;
        Ok(Request { store_id, ask })
    }
}

/// Fewest bytes of a name: the lengths of its two texts.
const NAME_BYTES: usize = 4;

impl Answer {
    /// The message. Lists beyond the bounds make one that is refused.
    pub fn encode(&self) -> Vec<u8> {
        let mut to;
        match self {
            Answer::Compared(message) => {
                to = Writer::new(COMPARED);
                to.put(message);
            }
            Answer::Resolved(found) => {
                to = Writer::new(RESOLVED);
                to.list(found, |to, (place, name)| {
                    to.put(&place.to_be_bytes());
                    to.name(name);
                });
            }
            Answer::Listed { names, more } => {
                to = Writer::new(LISTED);
                to.put(&[u8::from(*more)]);
                to.list(names, Writer::name);
            }
            Answer::Recounted(days) => {
                to = Writer::new(RECOUNTED);
                to.put(&days.to_be_bytes());
            }
            Answer::TooMany => to = Writer::new(TOO_MANY),
        }
        to.done()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`]: for whatever [`Answer::encode`] does not write.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let (kind, mut from) = Reader::open(message)?;
        let answer = match kind {
            COMPARED => Answer::Compared(from.rest()),
            RESOLVED => Answer::Resolved(from.list(MAX_ITEMS, 2 + NAME_BYTES, |from| {
                Ok((u16::from_be_bytes(from.array()?), from.name()?))
            })?),
            LISTED => {
                let more = match from.array()? {
                    [0] => false,
                    [1] => true,
                    _ => return Err(Malformed::Kind),
                };
                Answer::Listed { names: from.list(MAX_NAMES, NAME_BYTES, Reader::name)?, more }
            }
            RECOUNTED => Answer::Recounted(u16::from_be_bytes(from.array()?)),
            TOO_MANY => Answer::TooMany,
            _ => return Err(Malformed::Kind),
        };
        from.end()?;
        Ok(answer)
    }

    /// The bytes that a name takes in an answer.
    pub fn bytes_of(name: &EventName) -> usize {
        2 + NAME_BYTES + name.event_id.len() + name.event_type.len()
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
