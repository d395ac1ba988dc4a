//! `GET /sync/status`, `GET /sync/last-seq`: how far a till's events have come.

use super::auth::{Caller, StoreCaller};
use super::error::Problem;
use crate::app::AppState;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use uuid::Uuid;
use velox_protocol::api::SyncStatus;
use velox_protocol::event::normal_id;

/// Which device.
#[derive(Debug, Deserialize)]
pub struct DeviceQuery {
    store_id: Option<Uuid>,
    device_id: Option<String>,
}

impl DeviceQuery {
    fn device(&self, caller: &StoreCaller) -> Result<(Uuid, String), Problem> {
        let store_id = caller.store(self.store_id)?;
        let device_id = match (self.device_id.as_deref().filter(|id| !id.is_empty()), caller.caller()) {
            (Some(named), _) => normal_id(named),
            (None, Caller::Device { device_id, .. }) => device_id.clone(),
            (None, _) => return Err(Problem::bad_request("DEVICE_REQUIRED", "device_id is missing.")),
        };
        caller.check_device(&device_id)?;
        Ok((store_id, device_id))
    }
}

/// What v1 shows of a device's synchronisation.
///
/// # Errors
/// 400, 401, 403, 503.
pub async fn status(
    state: web::Data<AppState>,
    caller: StoreCaller,
    query: web::Query<DeviceQuery>,
) -> Result<HttpResponse, Problem> {
    let (store_id, device_id) = query.device(&caller)?;
    let last = state.store.last_seq(store_id, &device_id).await?;
    let pending_events_count = state.store.pending_of_device(store_id, &device_id).await?;
    Ok(HttpResponse::Ok().json(SyncStatus {
        store_id,
        device_id,
        last_synced_at: last.map(|(_, received_at)| received_at.timestamp_millis()),
        last_event_seq: last.map_or(0, |(seq, _)| seq),
        pending_events_count,
        last_sync_duration_ms: None,
        last_sync_error: None,
    }))
}

/// The greatest seq of a device; 0 before its first event.
///
/// # Errors
/// 400, 401, 403, 503.
pub async fn last_seq(
    state: web::Data<AppState>,
    caller: StoreCaller,
    query: web::Query<DeviceQuery>,
) -> Result<HttpResponse, Problem> {
    let (store_id, device_id) = query.device(&caller)?;
    let last = state.store.last_seq(store_id, &device_id).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "last_seq": last.map_or(0, |(seq, _)| seq) })))
}
