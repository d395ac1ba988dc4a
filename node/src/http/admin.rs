//! Stores and devices, for the admin.

use super::auth::{AdminOnly, new_device_token, token_hash};
use super::body::read_json;
use super::error::Problem;
use super::trace::trace_parent;
use crate::app::AppState;
use crate::clock::{fresh_event_id, fresh_id};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;
use velox_protocol::event::{normal_id, uuid_of};
use velox_store::{Actor, NodeStamp};

/// Longest name of a store, in characters.
const MAX_NAME_CHARS: usize = 200;
/// Longest device id, as a push takes it.
const MAX_DEVICE_BYTES: usize = 128;

/// A store to be registered or renamed.
#[derive(Debug, Deserialize)]
pub struct NewStore {
    store_id: Option<Uuid>,
    name: String,
}

/// A device to be given a token.
#[derive(Debug, Deserialize)]
pub struct NewDevice {
    store_id: Uuid,
    device_id: String,
}

/// Whose devices.
#[derive(Debug, Deserialize)]
pub struct StoreQuery {
    store_id: Option<Uuid>,
}

/// `POST /admin/stores`: 201 for a new one, 200 for a known one, whose name is updated. One that nobody has declared is
/// at home here from now on.
///
/// # Errors
/// 400, 401, 403, 503.
pub async fn create_store(
    state: web::Data<AppState>,
    _: AdminOnly,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let new: NewStore = read_json(&request, payload, &state.gate).await?;
    let name = new.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.contains('\0') {
        return Err(Problem::bad_request("INVALID_NAME", "name must have 1 to 200 characters."));
    }
    let store_id = new.store_id.unwrap_or_else(fresh_id);
    let now = state.clock.now();
    let stamp = NodeStamp {
        event_id: fresh_event_id(now),
        now,
        actor: Actor { user_id: "admin".to_owned(), role: "admin".to_owned() },
        trace_parent: trace_parent(request.headers()),
    };
    let created = state.store.create_store(store_id, name, &stamp).await?;
    state.auth.devices().forget();
    let store = created.store;
    let answer = json!({ "store_id": store.store_id, "name": store.name, "home_node": store.home_node });
    Ok(if created.created { HttpResponse::Created().json(answer) } else { HttpResponse::Ok().json(answer) })
}

/// `GET /admin/stores`.
///
/// # Errors
/// 401, 403, 503.
pub async fn list_stores(state: web::Data<AppState>, _: AdminOnly) -> Result<HttpResponse, Problem> {
    let items = state.store.stores().await?;
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next_cursor": null })))
}

/// `POST /admin/devices`: a new token; an existing device's old one dies.
///
/// # Errors
/// 400, 401, 403, 404 for an unknown store, 503.
pub async fn create_device(
    state: web::Data<AppState>,
    _: AdminOnly,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let new: NewDevice = read_json(&request, payload, &state.gate).await?;
    let device_id = normal_id(new.device_id.trim());
    if device_id.is_empty() || device_id.len() > MAX_DEVICE_BYTES || device_id.chars().any(char::is_control) {
        return Err(Problem::bad_request("INVALID_DEVICE", "device_id must have 1 to 128 characters."));
    }
    let token = new_device_token(&mut rand::rng());
    let hash = token_hash(token.expose());
    if !state.store.set_device_token(new.store_id, &device_id, &hash).await? {
        return Err(Problem::not_found("There is no such store."));
    }
    state.auth.devices().forget();
    let answer = json!({ "store_id": new.store_id, "device_id": device_id, "token": token.expose() });
    Ok(HttpResponse::Created().json(answer))
}

/// `GET /admin/devices?store_id=`.
///
/// # Errors
/// 401, 403, 503.
pub async fn list_devices(
    state: web::Data<AppState>,
    _: AdminOnly,
    query: web::Query<StoreQuery>,
) -> Result<HttpResponse, Problem> {
    let items = state.store.devices(query.store_id).await?;
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next_cursor": null })))
}

/// `DELETE /admin/devices/{store_id}/{device_id}`: its token is refused from now on.
///
/// # Errors
/// 401, 403, 404, 503.
pub async fn revoke_device(
    state: web::Data<AppState>,
    _: AdminOnly,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (store_id, device_id) = path.into_inner();
    let unknown = || Problem::not_found("There is no such device.");
    let store_id = uuid_of(&store_id).ok_or_else(unknown)?;
    let device_id = normal_id(&device_id);
    // No device has such an id, and the database could not compare it.
    if device_id.contains('\0') {
        return Err(unknown());
    }
    if !state.store.revoke_device(store_id, &device_id).await? {
        return Err(unknown());
    }
    state.auth.devices().forget();
    Ok(HttpResponse::Ok().json(json!({ "store_id": store_id, "device_id": device_id, "revoked": true })))
}
