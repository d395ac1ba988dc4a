//! For operators: alive, ready, metrics, the tree of actors; and v1's ping.

use super::auth::AdminOnly;
use super::error::Problem;
use crate::app::AppState;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{HttpResponse, web};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use velox_actors::handles::ActorNode;
use velox_actors::metrics::{Answered, Metrics, OfActor, OfQueue};

/// How long readiness waits for the database.
const READY_LIMIT: Duration = Duration::from_secs(2);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /ping`, as v1 answers.
pub async fn ping(state: web::Data<AppState>) -> HttpResponse {
    let timestamp = state.clock.now().timestamp_millis();
    HttpResponse::Ok().json(json!({ "status": "ok", "timestamp": timestamp, "message": "pong" }))
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: 200 where the database takes writes, migrations are done and all actors are up; else 503 with
/// what is missing.
pub async fn readyz(state: web::Data<AppState>) -> HttpResponse {
    let (database, migrations) = match tokio::time::timeout(READY_LIMIT, state.store.readiness()).await {
        Ok(Ok(readiness)) => (readiness.writable, readiness.migrated),
        Ok(Err(_)) | Err(_) => (false, false),
    };
    let down = state.tree.down();
    let draining = state.is_draining();
    let ready = database && migrations && down.is_empty() && !draining;
    let body = json!({
        "status": if ready { "ready" } else { "not ready" },
        "database": database,
        "migrations": migrations,
        "actors_down": down,
        "draining": draining,
    });
    if ready { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

/// `GET /metrics`, in the OpenMetrics format.
///
/// # Errors
/// None; where the database is away, the figures that come from it are the last ones.
pub async fn metrics(state: web::Data<AppState>) -> Result<HttpResponse, Problem> {
    if let Ok(Ok(counts)) = tokio::time::timeout(READY_LIMIT, state.store.outbox_counts()).await {
        for status in ["pending", "dead"] {
            let label = OfQueue { target: "projection".to_owned(), status: status.to_owned() };
            state.metrics.outbox_entries.get_or_create(&label).set(0);
        }
        for row in counts {
            let label = OfQueue { target: row.target, status: row.status };
            state.metrics.outbox_entries.get_or_create(&label).set(row.count);
        }
    }
    observe_actors(&state, &state.tree.snapshot());
    Ok(HttpResponse::Ok().content_type(OPENMETRICS).body(state.metrics.encode()))
}

fn observe_actors(state: &AppState, node: &ActorNode) {
    let label = OfActor { actor: node.name.clone() };
    state.metrics.actor_restarts.get_or_create(&label).set(i64::try_from(node.restarts).unwrap_or(i64::MAX));
    state.metrics.actor_mailbox.get_or_create(&label).set(i64::try_from(node.mailbox).unwrap_or(i64::MAX));
    for child in &node.children {
        observe_actors(state, child);
    }
}

/// `GET /admin/actors`: the supervisor tree, live.
///
/// # Errors
/// 401, 403.
pub async fn actors(state: web::Data<AppState>, _: AdminOnly) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(state.tree.snapshot()))
}

/// Counts every answered request by its route's pattern, never by its path.
///
/// # Errors
/// The handler's.
pub async fn count_request(
    metrics: Arc<Metrics>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let route = request.match_pattern().unwrap_or_else(|| "unknown".to_owned());
    let answered = next.call(request).await;
    let status = match &answered {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    metrics.http_requests.get_or_create(&Answered { route, status: status.as_u16() }).inc();
    answered
}
