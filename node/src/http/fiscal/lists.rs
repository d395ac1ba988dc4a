//! Ranges and the ledger, as they are read.

use super::answers::{RangeAnswer, check_owner, series_of};
use super::{no_series, page};
use crate::app::AppState;
use crate::http::auth::{Caller, StoreCaller};
use crate::http::error::Problem;
use crate::http::page::{List, Scope};
use actix_web::{HttpRequest, HttpResponse, Responder, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use velox_protocol::event::normal_id;
use velox_store::{FiscalRangeFilter, FiscalRangeRow, LedgerFilter, LedgerRow};

/// Most ranges of a device that are shown.
const DEVICE_RANGES: u32 = 1_000;

/// Whose ranges.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RangesQuery {
    /// Absent: the caller's.
    #[param(value_type = Option<Uuid>)]
    store_id: Option<String>,
    /// The series.
    #[param(value_type = Option<Uuid>)]
    series_id: Option<String>,
    /// The till; absent: the caller, for lists all.
    device_id: Option<String>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The ranges of a till.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceRanges {
    /// By the time of their grant.
    ranges: Vec<RangeAnswer>,
}

/// A page of a ledger.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ledger {
    #[serde(flatten)]
    list: List<LedgerRow>,
    /// From this number on all are free: nobody has got them.
    free_from: i64,
}

/// The range that a till may go on with.
#[utoipa::path(
    get, path = "/fiscal/active-range", tag = "sync", params(RangesQuery),
    responses(
        (status = 200, description = "`has_range` false, or the range with `has_range` true.", body = RangeAnswer),
        (status = 404, description = "There is no such series.", body = crate::http::error::ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "`NOT_OWNER`.", body = crate::http::error::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub async fn active_range(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query: RangesQuery = page::query(&request)?;
    let store_id = caller.store(page::query_id(query.store_id.as_deref())?)?;
    let device_id = device(&caller, query.device_id.as_deref()).await?;
    let series_id = page::query_id(query.series_id.as_deref())?
        .ok_or_else(|| Problem::bad_request("INVALID_QUERY", "series_id is missing."))?;
    check_owner(&state, store_id, series_id).await?;
    let now = state.clock.now();
    if let Some(range) = state.store.active_fiscal_range(store_id, series_id, &device_id).await?
        && range.range()?.is_shown(now)
    {
        let mut answer = json!(RangeAnswer::from(range));
        answer["has_range"] = json!(true);
        return Ok(HttpResponse::Ok().json(answer));
    }
    Ok(HttpResponse::Ok().json(json!({ "has_range": false })))
}

/// The ranges of a till, by the time of their grant; 1000 at most.
#[utoipa::path(
    get, path = "/fiscal/device-ranges", tag = "sync", params(RangesQuery),
    responses((status = 200, description = "The ranges.", body = DeviceRanges)),
)]
pub async fn device_ranges(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query: RangesQuery = page::query(&request)?;
    let store_id = caller.store(page::query_id(query.store_id.as_deref())?)?;
    let device_id = device(&caller, query.device_id.as_deref()).await?;
    let series_id = page::query_id(query.series_id.as_deref())?;
    let filter = FiscalRangeFilter { series_id, device_id: Some(&device_id) };
    let wanted = velox_store::PageRequest { after: None, limit: DEVICE_RANGES };
    let ranges = state.store.fiscal_ranges(store_id, filter, wanted).await?.items;
    Ok(HttpResponse::Ok().json(DeviceRanges { ranges: ranges.into_iter().map(RangeAnswer::from).collect() }))
}

/// All ranges of a store, by the time of their grant.
#[utoipa::path(
    get, path = "/fiscal/ranges", tag = "sync", operation_id = "fiscal_ranges", params(RangesQuery),
    responses((status = 200, description = "A page.", body = List<FiscalRangeRow>)),
)]
pub async fn ranges(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
) -> Result<impl Responder, Problem> {
    let query: RangesQuery = page::query(&request)?;
    let store_id = caller.store(page::query_id(query.store_id.as_deref())?)?;
    let series_id = page::query_id(query.series_id.as_deref())?;
    let device_id = page::query_text(query.device_id)?.map(|id| normal_id(&id));
    let scope = Scope { list: "fiscal-ranges", store_id };
    let wanted = scope.request(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = FiscalRangeFilter { series_id, device_id: device_id.as_deref() };
    Ok(web::Json(scope.list(state.store.fiscal_ranges(store_id, filter, wanted).await?)))
}

/// What has become of each number of a series, by number.
#[utoipa::path(
    get, path = "/fiscal/ledger", tag = "sync", operation_id = "fiscal_ledger", params(RangesQuery),
    responses(
        (status = 200, description = "A page.", body = Ledger),
        (status = 404, description = "There is no such series.", body = crate::http::error::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub async fn ledger(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
) -> Result<impl Responder, Problem> {
    let query: RangesQuery = page::query(&request)?;
    let store_id = caller.store(page::query_id(query.store_id.as_deref())?)?;
    let series_id = page::query_id(query.series_id.as_deref())?
        .ok_or_else(|| Problem::bad_request("INVALID_QUERY", "series_id is missing."))?;
    series_of(&state, store_id, series_id).await?;
    let scope = Scope { list: "fiscal-ledger", store_id };
    let wanted = scope.request(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = LedgerFilter { store_id, series_id, now: state.clock.now() };
    let page = state.store.fiscal_ledger(filter, wanted).await?;
    let free_from = state.store.fiscal_free_from(store_id, series_id).await?.ok_or_else(no_series)?;
    Ok(web::Json(Ledger { list: scope.list(page), free_from }))
}

/// The till that is asked for, else the token's own.
async fn device(caller: &StoreCaller, named: Option<&str>) -> Result<String, Problem> {
    match (named.filter(|id| !id.is_empty()), caller.caller()) {
        (None, Caller::Device { device_id, .. }) => Ok(device_id.clone()),
        (named, _) => {
            let device_id = normal_id(named.unwrap_or_default());
            caller.admit_device(&device_id).await?;
            Ok(device_id)
        }
    }
}
