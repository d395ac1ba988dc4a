//! Lists: how much is wanted, from where, of what time, and the shape of a page.
//!
//! A query is read by the handler, after the caller is known, so that a stranger learns nothing of it. What
//! never will be here: SQL, or what a list contains.

use actix_web::{HttpRequest, web};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, SubsecRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;
use uuid::Uuid;
use velox_protocol::event::uuid_of;
use velox_store::{Listed, Page, PageRequest, TimeRange};

use super::error::Problem;

/// Rows of a page where no number is asked for.
pub const DEFAULT_LIMIT: u32 = 100;

/// Most rows of a page.
pub const MAX_LIMIT: u32 = 1000;

/// Longest cursor that is looked at; ours have some 250 characters, and 2,300 where an event's id is as long and odd as
/// one can be.
const MAX_CURSOR: usize = 4096;

/// Longest text that is searched for, in characters.
const MAX_TEXT: usize = 255;

/// A page of a list, as it is answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// `cursor` of the next page; `null`: this is the last one.
    pub next_cursor: Option<String>,
}

/// What a cursor says, as JSON in base64url. It is no secret and grants nothing: the store is checked against
/// the credential like any other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor<K> {
    list: String,
    store_id: Uuid,
    after: K,
}

/// One list of one store: what a cursor is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// The list's name, as in its path.
    pub list: &'static str,
    /// The store.
    pub store_id: Uuid,
}

impl Scope {
    /// The part of the list that `limit` and `cursor` ask for.
    ///
    /// # Errors
    /// 400 for a limit outside 1..=[`MAX_LIMIT`] and for a cursor that is none, or one of another list or store.
    pub fn request<K: DeserializeOwned>(
        &self,
        limit: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<PageRequest<K>, Problem> {
        let after = cursor.map(|cursor| self.read(cursor).ok_or_else(invalid_cursor)).transpose()?;
        Ok(PageRequest { after, limit: read_limit(limit)? })
    }

    /// The answer with this page.
    pub fn list<T>(&self, page: Page<T>) -> List<T>
    where
        T: Listed<Key: Serialize>,
    {
        let last = page.has_more.then(|| page.items.last()).flatten();
        List { next_cursor: last.map(|row| self.cursor(row.key())), items: page.items }
    }

    fn cursor<K: Serialize>(&self, after: K) -> String {
        let cursor = Cursor { list: self.list.to_owned(), store_id: self.store_id, after };
        // Keys are ids and times, which always serialise.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).unwrap_or_default())
    }

    fn read<K: DeserializeOwned>(&self, text: &str) -> Option<K> {
        if text.len() > MAX_CURSOR {
            return None;
        }
        let json = URL_SAFE_NO_PAD.decode(text).ok()?;
        let cursor: Cursor<K> = serde_json::from_slice(&json).ok()?;
        (cursor.list == self.list && cursor.store_id == self.store_id).then_some(cursor.after)
    }
}

fn invalid_cursor() -> Problem {
    Problem::bad_request("INVALID_CURSOR", "The cursor is none of this list; start anew without one.")
}

fn read_limit(text: Option<&str>) -> Result<u32, Problem> {
    let Some(text) = text else {
        return Ok(DEFAULT_LIMIT);
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|limit| digits && (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| Problem::bad_request("INVALID_LIMIT", "limit must be a whole number from 1 to 1000."))
}

/// Reads the query; parameters that the call does not have are ignored.
///
/// # Errors
/// 400 for a value of the wrong kind and for one that is given twice.
pub fn query<Q: DeserializeOwned>(request: &HttpRequest) -> Result<Q, Problem> {
    let query = web::Query::<Q>::from_query(request.query_string());
    query.map(web::Query::into_inner).map_err(|_| invalid_query("The query is not what this call takes."))
}

fn invalid_query(detail: &'static str) -> Problem {
    Problem::bad_request("INVALID_QUERY", detail)
}

/// An id in the path. 404 where it is none: no such thing is there.
///
/// # Errors
/// See above.
pub fn path_id(request: &HttpRequest, name: &str) -> Result<Uuid, Problem> {
    uuid_of(request.match_info().query(name)).ok_or_else(|| Problem::not_found("There is no such thing."))
}

/// An id in the query.
///
/// # Errors
/// 400 where it is none.
pub fn query_id(text: Option<&str>) -> Result<Option<Uuid>, Problem> {
    text.map(|text| uuid_of(text).ok_or_else(|| invalid_query("An id in the query is no UUID."))).transpose()
}

/// A text in the query that is compared with stored ones.
///
/// # Errors
/// 400 where it is too long, or holds NUL, which no stored text can.
pub fn query_text(text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.contains('\0') || text.chars().nth(MAX_TEXT).is_some() => {
            Err(invalid_query("A text in the query is too long or holds NUL."))
        }
        text => Ok(text),
    }
}

/// The stretch of time between `from` and `to`, both included: dates (the whole UTC day) or RFC 3339.
///
/// # Errors
/// 400 where one of them is neither.
pub fn time_range(from: Option<&str>, to: Option<&str>) -> Result<TimeRange, Problem> {
    let mut range = TimeRange::default();
    if let Some(text) = from {
        range.from = moment(text).ok_or_else(invalid_time)?.first();
    }
    if let Some(text) = to {
        range.until = moment(text).and_then(Moment::behind).ok_or_else(invalid_time)?;
    }
    Ok(range)
}

/// The whole UTC days from `date_from` to `date_to`, both included.
///
/// # Errors
/// 400 where one of them is no day, or they are the wrong way round.
pub fn days(date_from: Option<&str>, date_to: Option<&str>) -> Result<TimeRange, Problem> {
    let invalid = || invalid_query("date_from and date_to must be days (YYYY-MM-DD) of the years 1 to 9999.");
    let day = |text: &str| match moment(text) {
        Some(day @ Moment::Day(_)) => Ok(day),
        _ => Err(invalid()),
    };
    let mut range = TimeRange::default();
    if let Some(text) = date_from {
        range.from = day(text)?.first();
    }
    if let Some(text) = date_to {
        range.until = day(text)?.behind().ok_or_else(invalid)?;
    }
    if range.from >= range.until {
        return Err(invalid_query("date_from is after date_to."));
    }
    Ok(range)
}

fn invalid_time() -> Problem {
    invalid_query("from and to must be dates (YYYY-MM-DD) or times (RFC 3339) of the years 1 to 9999.")
}

/// What a `from` or `to` names.
enum Moment {
    Day(NaiveDate),
    Time(DateTime<Utc>),
}

impl Moment {
    fn first(self) -> DateTime<Utc> {
        match self {
            Moment::Day(day) => day.and_time(NaiveTime::MIN).and_utc(),
            Moment::Time(time) => time,
        }
    }

    /// The first moment after it; stored times are whole milliseconds.
    fn behind(self) -> Option<DateTime<Utc>> {
        match self {
            Moment::Day(day) => day.checked_add_days(Days::new(1)).map(|day| Moment::Day(day).first()),
            Moment::Time(time) => time.trunc_subsecs(3).checked_add_signed(TimeDelta::milliseconds(1)),
        }
    }
}

fn moment(text: &str) -> Option<Moment> {
    // The parser of dates takes signs and fewer digits too.
    let moment = if text.len() == 10 {
        text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-').then_some(())?;
        Moment::Day(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?)
    } else {
        Moment::Time(DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc))
    };
    let year = match &moment {
        Moment::Day(day) => day.year(),
        Moment::Time(time) => time.year(),
    };
    (1..=9999).contains(&year).then_some(moment)
}

#[cfg(test)]
mod tests;
