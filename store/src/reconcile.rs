//! What two logs of one store lack of each other, at a cost that grows with the difference: digests of years, days
//! and buckets lead to the forms that differ (see `velox_protocol::reconcile` for the messages).
//!
//! One side starts ([`Reconciliation`]), the other answers without keeping anything in between
//! ([`Store::answer_reconcile`]). Nothing is written but digests. Never here: HTTP, who may ask, what is done about
//! the difference.

mod items;
mod plan;
mod run;

pub use run::{Portion, ReconcileError, Reconciliation, Summary};

use crate::{Error, Store};
use chrono::{DateTime, Utc};
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use uuid::Uuid;
use velox_protocol::reconcile::{Answer, Ask, EventName, Item, Request, Scope};

/// Forms of one comparison, by the digests: some 2 MiB of items. More differ in several comparisons.
const SESSION_FORMS: u64 = 32_768;
/// Forms beyond which a comparison is given up: so many more than the digests said that these must be wrong.
const MOST_FORMS: i64 = 4 * SESSION_FORMS as i64;
/// Longest message of the set protocol: a round trip for up to 8,000 items.
const FRAME: u64 = 256 << 10;
/// Bytes of names in one answer.
const NAMES_BYTES: usize = 1 << 20;
/// Milliseconds from the first of the year 1 to 1970: the set protocol knows no time below 0.
const YEAR_ONE_MS: i64 = 62_135_596_800_000;

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The database's.
    #[error(transparent)]
    Store(#[from] Error),
    /// The set protocol's part of the request is unsound: the asker's fault.
    #[error("a malformed message of the set protocol")]
    Malformed(#[from] negentropy::Error),
}

impl Store {
    /// Answers one request of a peer that may ask about the store. Keeps nothing: the peer's next request brings all
    /// that is needed.
    ///
    /// # Errors
    /// [`AnswerError::Malformed`] for what the peer did wrong, else the database's.
    #[tracing::instrument(name = "db.reconcile.answer", level = "debug", skip_all)]
    pub async fn answer_reconcile(&self, request: &Request) -> Result<Vec<u8>, AnswerError> {
        let store_id = request.store_id;
        let answer = match &request.ask {
            Ask::Compare { scope, message } => match self.set_of(store_id, scope).await? {
                Some(set) => Answer::Compared(Negentropy::owned(set, FRAME)?.reconcile(message)?),
                None => Answer::TooMany,
            },
            Ask::Resolve { parts, items } => {
                let mut places: Vec<(&Item, u16)> = items.iter().zip(0..).collect();
                places.sort_unstable();
                let found = self.resolve_items(store_id, parts, items).await?.into_iter();
                let found = found.filter_map(|(item, name)| {
                    let at = places.binary_search_by(|(of, _)| (*of).cmp(&item)).ok()?;
                    Some((places[at].1, name))
                });
                Answer::Resolved(fitting(found, |(_, name)| name).0)
            }
            Ask::List { parts, after } => {
                let names = self.list_events(store_id, parts, after.as_ref()).await?;
                let is_full = names.len() >= plan::PORTION;
                let (names, cut) = fitting(names.into_iter(), |name| name);
                Answer::Listed { names, more: is_full || cut }
            }
            Ask::Recount { days } => {
                let recounted = self.recount_doubted(store_id, days).await?;
                Answer::Recounted(u16::try_from(recounted.mended.len()).unwrap_or(u16::MAX))
            }
        };
        Ok(answer.encode())
    }

    /// What is compared of a scope; `None`: too many forms.
    async fn set_of(
        &self,
        store_id: Uuid,
        scope: &Scope,
    ) -> Result<Option<NegentropyStorageVector>, AnswerError> {
        let digests = match scope {
            Scope::Years => {
                // A comparison begins with them.
                self.fold_digests(store_id).await?;
                self.year_digests(store_id).await?
            }
            Scope::Days(years) => self.day_digests(store_id, years).await?,
            Scope::Buckets(days) => self.bucket_digests(store_id, days).await?,
            Scope::Forms(parts) => {
                let forms = self.form_items(store_id, parts).await?;
                if forms.len() as i64 > MOST_FORMS {
                    return Ok(None);
                }
                return Ok(Some(set(forms.iter().map(|form| (milliseconds(form.created_at), form.item)))?));
            }
        };
        Ok(Some(set(digests.iter().map(|digest| (digest.place(), digest.item())))?))
    }
}

fn set(
    items: impl ExactSizeIterator<Item = (u64, Item)>,
) -> Result<NegentropyStorageVector, negentropy::Error> {
    let mut set = NegentropyStorageVector::with_capacity(items.len());
    for (place, item) in items {
        set.insert(place, Id::from_byte_array(item))?;
    }
    set.seal()?;
    Ok(set)
}

/// Since the first of the year 1.
fn milliseconds(time: DateTime<Utc>) -> u64 {
    u64::try_from(time.timestamp_millis().saturating_add(YEAR_ONE_MS)).unwrap_or(0)
}

/// As many of the names as one answer takes, and whether others are left.
fn fitting<T>(all: impl Iterator<Item = T>, name: impl Fn(&T) -> &EventName) -> (Vec<T>, bool) {
    let (mut fitting, mut bytes) = (Vec::new(), 0);
    for element in all {
        bytes += Answer::bytes_of(name(&element));
        if bytes > NAMES_BYTES {
            return (fitting, true);
        }
        fitting.push(element);
    }
    (fitting, false)
}
