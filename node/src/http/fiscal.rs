//! `/fiscal/…`: fiscal numbers for tills, and what has become of them.
//!
//! Only the owner of a series hands out its numbers; another node says whom to ask. Never here: when a device gets its
//! range again (see `velox_protocol::fiscal`), SQL.

mod answers;
pub mod lists;

use super::auth::{AdminOnly, StoreCaller};
use super::body::read_json;
use super::error::{Problem, allow_only};
use super::page;
use super::trace::trace_parent;
use crate::app::AppState;
use crate::clock::{fresh_event_id, fresh_id};
use actix_web::{HttpRequest, HttpResponse, web};
pub use answers::{ConsumeBody, ConsumedAnswer, NewSeriesBody, RangeAnswer, ReportBody, ReserveBody};
use answers::{allocated, check_owner, has_native_peers};
use chrono::TimeDelta;
use lists::{active_range, device_ranges, ledger, ranges};
use std::time::Duration;
use uuid::Uuid;
use velox_actors::fiscal_allocator::{Consume, Report, Reserve};
use velox_protocol::event::{normal_id, uuid_of};
use velox_protocol::{fiscal, home};
use velox_store::{Actor, Consumed, NewRange, NewSeries, NodeStamp, Reported, Reserved};

/// Longest time for an answer of the allocator.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest name and prefix of a series, and longest request id, in characters.
const MAX_CHARS: usize = 200;

/// The calls.
pub fn configure(app: &mut web::ServiceConfig) {
    let get = |path: &str| web::resource(path).default_service(allow_only("GET"));
    let post = |path: &str| web::resource(path).default_service(allow_only("POST"));
    app.service(post("/fiscal/reserve-range").route(web::post().to(reserve)))
        .service(get("/fiscal/active-range").route(web::get().to(active_range)))
        .service(get("/fiscal/device-ranges").route(web::get().to(device_ranges)))
        .service(post("/fiscal/consume").route(web::post().to(consume)))
        .service(post("/fiscal/report").route(web::post().to(report)))
        .service(get("/fiscal/ranges").route(web::get().to(ranges)))
        .service(get("/fiscal/ledger").route(web::get().to(ledger)))
        .service(post("/fiscal/series").route(web::post().to(declare)));
}

/// Reserves a range for a till. The same again within a minute or for the same `request_id`; else the till's range is
/// closed and a fresh one granted.
#[utoipa::path(
    post, path = "/fiscal/reserve-range", tag = "sync", request_body = ReserveBody,
    responses(
        (status = 200, description = "The range.", body = RangeAnswer),
        (status = 404, description = "There is no such series.", body = super::error::ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "`NOT_OWNER`, `SERIES_EXHAUSTED` or `REQUEST_ID_REUSED`.",
            body = super::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn reserve(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: ReserveBody = read_json(&request, payload, &state.gate).await?;
    let store_id = caller.store(id(body.store_id.as_deref())?)?;
    let device_id = normal_id(&body.device_id);
    caller.admit_device(&device_id).await?;
    let series_id = required_id(&body.series_id)?;
    let quantity = body.quantity()?;
    let request_id = body.request_id.filter(|id| !id.is_empty());
    if request_id.as_ref().is_some_and(|id| !is_text(id)) {
        return Err(invalid("request_id must have 1 to 200 characters."));
    }
    check_owner(&state, store_id, series_id).await?;
    let now = state.clock.now();
    let ttl = TimeDelta::from_std(state.fiscal_ttl).unwrap_or(TimeDelta::days(1));
    let new =
        NewRange { store_id, series_id, device_id, quantity, request_id, range_id: fresh_id(), now, ttl };
    match allocated(state.fiscal.ask(Reserve(new), LIMIT).await)? {
        Reserved::Range { range, .. } => Ok(HttpResponse::Ok().json(RangeAnswer::from(range))),
        Reserved::Unknown => Err(no_series()),
        Reserved::SeriesExhausted => {
            Err(Problem::conflict("SERIES_EXHAUSTED", "The series has no numbers any more."))
        }
        Reserved::RequestReused => {
            Err(Problem::conflict("REQUEST_ID_REUSED", "The request_id belongs to another series."))
        }
    }
}

/// Takes the next number of a till's range. The same again for the same `sale_id`.
#[utoipa::path(
    post, path = "/fiscal/consume", tag = "sync", request_body = ConsumeBody,
    responses(
        (status = 200, description = "The number.", body = ConsumedAnswer),
        (status = 404, description = "There is no such series.", body = super::error::ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "`RANGE_EXHAUSTED` or `NOT_OWNER`.", body = super::error::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub async fn consume(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: ConsumeBody = read_json(&request, payload, &state.gate).await?;
    let store_id = caller.store(id(body.store_id.as_deref())?)?;
    let device_id = normal_id(&body.device_id);
    caller.admit_device(&device_id).await?;
    let (series_id, sale_id) = (required_id(&body.series_id)?, id(body.sale_id.as_deref())?);
    check_owner(&state, store_id, series_id).await?;
    let consume = Consume { store_id, series_id, device_id, sale_id };
    match allocated(state.fiscal.ask(consume, LIMIT).await)? {
        Consumed::Number(number) => Ok(HttpResponse::Ok().json(ConsumedAnswer { number })),
        Consumed::Exhausted => {
            let detail = "The device has no range with numbers left; reserve one.";
            Err(Problem::conflict("RANGE_EXHAUSTED", detail))
        }
    }
}

/// Tells how far a till has come with a range offline.
#[utoipa::path(
    post, path = "/fiscal/report", tag = "sync", request_body = ReportBody,
    responses(
        (status = 200, description = "The range as it stands.", body = RangeAnswer),
        (status = 404, description = "There is no such range.", body = super::error::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub async fn report(
    state: web::Data<AppState>,
    caller: StoreCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: ReportBody = read_json(&request, payload, &state.gate).await?;
    let store_id = caller.store(id(body.store_id.as_deref())?)?;
    let range_id = required_id(&body.range_id)?;
    let no_range = || Problem::not_found("There is no such range.");
    let range = state.store.fiscal_range(store_id, range_id).await?.ok_or_else(no_range)?;
    if range.device_id.is_empty() {
        return Err(no_range());
    }
    caller.check_device(&range.device_id)?;
    let report = Report { store_id, range_id, used_up_to: body.used_up_to };
    match allocated(state.fiscal.ask(report, LIMIT).await)? {
        Reported::Range(range) => Ok(HttpResponse::Ok().json(RangeAnswer::from(range))),
        Reported::Unknown => Err(no_range()),
        Reported::OutOfRange => {
            Err(invalid("used_up_to must be a number of the range, or the one before its first."))
        }
    }
}

/// Declares a series: 201; 200 with what stands for a known one.
#[utoipa::path(
    post, path = "/fiscal/series", tag = "admin", operation_id = "declare_series", request_body = NewSeriesBody,
    responses(
        (status = 200, description = "It was declared before; this is what stands.", body = velox_store::FiscalSeriesRow),
        (status = 201, description = "It is declared.", body = velox_store::FiscalSeriesRow),
        (status = 404, description = "There is no such store.", body = super::error::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub async fn declare(
    state: web::Data<AppState>,
    _: AdminOnly,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: NewSeriesBody = read_json(&request, payload, &state.gate).await?;
    let store_id = id(body.store_id.as_deref())?
        .ok_or_else(|| Problem::bad_request("STORE_REQUIRED", "The admin must name a store."))?;
    let series_id = id(body.series_id.as_deref())?.unwrap_or_else(fresh_id);
    let (name, prefix) = (body.name.trim().to_owned(), body.prefix.clone().unwrap_or_default());
    if name.is_empty() || !is_text(&name) || !is_text(&prefix) {
        return Err(invalid("name must have 1 to 200 characters, prefix at most 200."));
    }
    let next_number = body.next_number.unwrap_or(1);
    if !(0..=fiscal::LAST_NUMBER).contains(&next_number) {
        return Err(invalid("next_number must be a whole number from 0 to 999999999999999."));
    }
    if !state.store.store_exists(store_id).await? {
        return Err(Problem::not_found("There is no such store."));
    }
    let (declared, here) = (state.store.home_of(store_id).await?, state.own.get().node_id.clone());
    // Nobody is its home: then whoever declares the series owns it, so that somebody does.
    let nobodys = home::home(declared.as_deref(), &here, has_native_peers(&state)).is_none();
    let owner_node = nobodys.then_some(here);
    let new = NewSeries { store_id, series_id, name, prefix, next_number, owner_node };
    let now = state.clock.now();
    let stamp = NodeStamp {
        event_id: fresh_event_id(now),
        now,
        actor: Actor { user_id: "admin".to_owned(), role: "admin".to_owned() },
        trace_parent: trace_parent(request.headers()),
    };
    let declared = state.store.declare_series(&new, &stamp).await?;
    if declared.created {
        state.wake("FiscalSeriesDeclared");
        return Ok(HttpResponse::Created().json(declared.series));
    }
    Ok(HttpResponse::Ok().json(declared.series))
}

fn id(text: Option<&str>) -> Result<Option<Uuid>, Problem> {
    let text = text.filter(|text| !text.is_empty());
    text.map(required_id).transpose()
}

fn required_id(text: &str) -> Result<Uuid, Problem> {
    uuid_of(text).ok_or_else(|| invalid("An id in the body is no UUID."))
}

fn is_text(text: &str) -> bool {
    text.chars().nth(MAX_CHARS).is_none() && !text.contains('\0')
}

fn invalid(detail: &'static str) -> Problem {
    Problem::bad_request("INVALID_BODY", detail)
}

fn no_series() -> Problem {
    Problem::not_found("There is no such series.")
}
