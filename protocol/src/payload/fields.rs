//! Reading a payload's fields by name. Absent, `null` and `""` are the same; a wrong kind is named.

use super::Money;
use crate::decimal::{self, Column};
use crate::event::{normal_id, uuid_of};
use crate::json::Json;
use crate::time;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use uuid::Uuid;

/// Why a payload has no clear meaning; becomes the reason of its exception.
pub(super) type Unclear = String;

/// A payload, or one element of a list in it.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) json: &'a Json<'a>,
    /// `items[3].`, for the reason.
    place: Option<(&'a str, usize)>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(json: &'a Json<'a>) -> Self {
        Fields { json, place: None }
    }

    pub(super) fn element(list: &'a str, index: usize, json: &'a Json<'a>) -> Result<Self, Unclear> {
        let fields = Fields { json, place: Some((list, index)) };
        if json.as_object().is_some() { Ok(fields) } else { Err(format!("{list}[{index}] is no object")) }
    }

    fn unclear(&self, key: &str, what: &str) -> Unclear {
        match self.place {
            Some((list, index)) => format!("{list}[{index}].{key} {what}"),
            None => format!("{key} {what}"),
        }
    }

    /// The first of `keys` that is present.
    pub(super) fn first(&self, keys: &[&'static str]) -> Option<(&'static str, &'a Json<'a>)> {
        keys.iter().find_map(|key| self.json.get(key).map(|value| (*key, value)))
    }

    /// An object in the object. Of another kind it is named: its figures would silently be missing.
    pub(super) fn inner(&self, key: &str) -> Result<Option<Fields<'a>>, Unclear> {
        match self.json.get(key) {
            None => Ok(None),
            Some(json) if json.as_object().is_some() => Ok(Some(Fields { json, place: self.place })),
            Some(_) => Err(self.unclear(key, "is no object")),
        }
    }

    /// A text; a number is taken as its digits.
    pub(super) fn text(&self, keys: &[&'static str]) -> Result<Option<String>, Unclear> {
        match self.first(keys) {
            None => Ok(None),
            Some((_, Json::String(text))) => Ok(Some(text.to_string())),
            Some((_, Json::Number(text))) => Ok(Some((*text).to_owned())),
            Some((key, _)) => Err(self.unclear(key, "is no text")),
        }
    }

    /// A request id or the like: a text, lower-case where it is a UUID. Anything else counts as absent.
    pub(super) fn id_text(&self, key: &str) -> Option<String> {
        self.json.get(key).and_then(Json::as_str).map(normal_id)
    }

    pub(super) fn uuid(&self, keys: &[&'static str]) -> Result<Option<Uuid>, Unclear> {
        match self.first(keys) {
            None => Ok(None),
            Some((key, value)) => {
                let id = value.as_str().and_then(uuid_of);
                id.map(Some).ok_or_else(|| self.unclear(key, "is no UUID"))
            }
        }
    }

    pub(super) fn required_uuid(&self, keys: &[&'static str]) -> Result<Uuid, Unclear> {
        self.uuid(keys)?.ok_or_else(|| self.unclear(keys[0], "is missing"))
    }

    pub(super) fn decimal(&self, keys: &[&'static str], column: Column) -> Result<Option<Decimal>, Unclear> {
        match self.first(keys) {
            None => Ok(None),
            Some((key, value)) => {
                decimal::read(value, column).map(Some).map_err(|what| self.unclear(key, what))
            }
        }
    }

    pub(super) fn required_decimal(&self, keys: &[&'static str], column: Column) -> Result<Decimal, Unclear> {
        self.decimal(keys, column)?.ok_or_else(|| self.unclear(keys[0], "is missing"))
    }

    /// A whole number, 0 or more.
    pub(super) fn required_count(&self, key: &'static str) -> Result<i64, Unclear> {
        let number = self.required_decimal(&[key], Column::Quantity)?;
        let whole = Some(number).filter(|number| number.is_integer() && !number.is_sign_negative());
        whole
            .and_then(|number| number.to_i64())
            .ok_or_else(|| self.unclear(key, "is no whole number from 0 on"))
    }

    /// `[plain, bs, usd]`, each with its aliases.
    pub(super) fn money(&self, keys: [&[&'static str]; 3], column: Column) -> Result<Money, Unclear> {
        Ok(Money {
            plain: self.decimal(keys[0], column)?,
            bs: self.decimal(keys[1], column)?,
            usd: self.decimal(keys[2], column)?,
        })
    }

    pub(super) fn time(&self, keys: &[&'static str]) -> Result<Option<DateTime<Utc>>, Unclear> {
        match self.first(keys) {
            None => Ok(None),
            Some((key, value)) => time::read(value).map(Some).ok_or_else(|| self.unclear(key, "is no time")),
        }
    }

    pub(super) fn flag(&self, key: &'static str) -> Result<Option<bool>, Unclear> {
        match self.json.get(key) {
            None => Ok(None),
            Some(value) => {
                value.as_bool().map(Some).ok_or_else(|| self.unclear(key, "is neither true nor false"))
            }
        }
    }

    pub(super) fn list(&self, key: &'static str) -> Result<Option<&'a [Json<'a>]>, Unclear> {
        match self.json.get(key) {
            None => Ok(None),
            Some(value) => value.as_array().map(Some).ok_or_else(|| self.unclear(key, "is no list")),
        }
    }
}
