//! What fiscal calls take and answer, and whom a series belongs to.

use super::no_series;
use crate::app::AppState;
use crate::http::error::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;
use velox_actors::handles::AskError;
use velox_actors::peer::Protocol;
use velox_protocol::{fiscal, home};
use velox_store::{FiscalRangeRow, FiscalSeriesRow};

/// Seconds after which a till may ask again.
const RETRY_AFTER: u32 = 2;

/// A request for a range.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReserveBody {
    /// Absent: the caller's.
    #[schema(value_type = Option<Uuid>)]
    pub(super) store_id: Option<String>,
    /// The series.
    #[schema(value_type = Uuid)]
    pub(super) series_id: String,
    /// The till.
    pub(super) device_id: String,
    /// Numbers, 1 to 10000; absent: 50.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 10000)]
    quantity: Value,
    /// Repeats of the request bear the same one.
    pub(super) request_id: Option<String>,
}

/// A request for one number.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ConsumeBody {
    /// Absent: the caller's.
    #[schema(value_type = Option<Uuid>)]
    pub(super) store_id: Option<String>,
    /// The series.
    #[schema(value_type = Uuid)]
    pub(super) series_id: String,
    /// The till.
    pub(super) device_id: String,
    /// What it is for.
    #[schema(value_type = Option<Uuid>)]
    pub(super) sale_id: Option<String>,
}

/// How far a till has come.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReportBody {
    /// Absent: the caller's.
    #[schema(value_type = Option<Uuid>)]
    pub(super) store_id: Option<String>,
    /// The range.
    #[schema(value_type = Uuid)]
    pub(super) range_id: String,
    /// The last number that it has used.
    pub(super) used_up_to: i64,
}

/// A series to be declared.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewSeriesBody {
    /// The shop.
    #[schema(value_type = Uuid, required = true)]
    pub(super) store_id: Option<String>,
    /// Absent: a new one.
    #[schema(value_type = Option<Uuid>)]
    pub(super) series_id: Option<String>,
    /// For people.
    pub(super) name: String,
    /// What stands before its numbers.
    pub(super) prefix: Option<String>,
    /// Its first number; absent: 1.
    pub(super) next_number: Option<i64>,
}

/// A number.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumedAnswer {
    /// The number.
    pub(super) number: i64,
}

/// A range as v1 answers it.
#[derive(Debug, Serialize, ToSchema)]
pub struct RangeAnswer {
    #[serde(flatten)]
    range: FiscalRangeRow,
    /// Numbers that are left.
    remaining: i64,
}

impl From<FiscalRangeRow> for RangeAnswer {
    fn from(range: FiscalRangeRow) -> Self {
        RangeAnswer { remaining: range.range_end - range.used_up_to, range }
    }
}

impl ReserveBody {
    /// How many numbers are granted.
    pub(super) fn quantity(&self) -> Result<i64, Problem> {
        let asked = match &self.quantity {
            Value::Null => Some(None),
            value => value.as_i64().map(Some),
        };
        asked.and_then(fiscal::quantity).ok_or_else(|| {
            Problem::bad_request("INVALID_QUANTITY", "quantity must be a whole number from 1 to 10000.")
        })
    }
}

/// What the allocator has answered; 503 where nothing.
pub(super) fn allocated<T>(answer: Result<Result<T, String>, AskError>) -> Result<T, Problem> {
    match answer {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::warn!(error, "no fiscal number was handed out");
            Err(Problem::unavailable("NOT_ALLOCATED", RETRY_AFTER))
        }
        Err(error) => {
            tracing::warn!(%error, "the fiscal allocator does not answer");
            Err(Problem::unavailable("NOT_ALLOCATED", RETRY_AFTER))
        }
    }
}

/// Whether anybody else might take itself for a store's home.
pub(super) fn has_native_peers(state: &AppState) -> bool {
    state.federation.relays.iter().any(|relay| relay.wire.peer().protocol == Protocol::Velox)
}

/// The series. 404 where it is not declared.
pub(super) async fn series_of(
    state: &AppState,
    store_id: Uuid,
    series_id: Uuid,
) -> Result<(FiscalSeriesRow, Option<String>), Problem> {
    state.store.fiscal_series_of(store_id, series_id).await?.ok_or_else(no_series)
}

/// 404 for an unknown series, 409 for one of another node.
pub(super) async fn check_owner(state: &AppState, store_id: Uuid, series_id: Uuid) -> Result<(), Problem> {
    let (series, declared) = series_of(state, store_id, series_id).await?;
    let here = state.own.get().node_id.clone();
    let home = home::home(declared.as_deref(), &here, has_native_peers(state));
    match home::owner(series.owner_node.as_deref(), home) {
        Some(owner) if owner == here => Ok(()),
        Some(owner) => {
            let seen = state.store.peers_seen().await?;
            let name = seen.into_iter().find(|seen| seen.node_id.as_deref() == Some(owner)).map(|s| s.peer);
            let peer = state.federation.relays.iter().map(|relay| relay.wire.peer());
            let url =
                peer.filter(|peer| Some(&peer.name) == name.as_ref()).map(|peer| peer.url.clone()).next();
            let at = url.map_or_else(String::new, |url| format!(" at {url}"));
            Err(Problem::conflict(
                "NOT_OWNER",
                format!("Node {owner}{at} hands out the numbers of this series."),
            ))
        }
        None => Err(Problem::conflict("NOT_OWNER", "Nobody owns the series: its store has no home.")),
    }
}
