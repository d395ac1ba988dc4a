//! `/sync/federation/…`: what nodes say to each other, and how it goes between them.
//!
//! To add a call of a native peer: take a `Signed` request by [`signed::read`], which checks everything that a
//! stranger could get wrong. To add a call of a v1 node: take a `NodeCaller`, and check its store.

pub mod id_lists;
pub mod reconcile;
pub mod relay;
pub mod replay;
pub mod signed;
pub mod status;
pub mod stores;

use super::auth::NodeCaller;
use super::error::allow_only;
use super::triage;
use crate::app::AppState;
use actix_web::HttpRequest;
use actix_web::web::{self, ServiceConfig};
use velox_protocol::v1::Kind;

/// The routes.
pub fn configure(app: &mut ServiceConfig) {
    let get = |path: &str| web::resource(path).default_service(allow_only("GET"));
    let post = |path: &str| web::resource(path).default_service(allow_only("POST"));
    app.service(post("/sync/federation/relay").route(web::post().to(relay::relay)))
        .service(post("/sync/federation/reconcile").route(web::post().to(reconcile::reconcile)))
        .service(post("/sync/federation/events").route(web::post().to(reconcile::events)))
        .service(post("/sync/federation/auto-reconcile").route(web::post().to(reconcile::auto_reconcile)))
        .service(get("/sync/federation/probe").route(web::get().to(status::probe)))
        .service(get("/sync/federation/triage").route(web::get().to(triage::facts)))
        .service(post("/sync/federation/heal").route(web::post().to(triage::heal)))
        .service(get("/sync/federation/status").route(web::get().to(status::status)))
        .service(get("/sync/federation/store-status").route(web::get().to(stores::status)))
        .service(
            post("/sync/federation/reconcile-inventory-stock").route(web::post().to(stores::reconcile_stock)),
        )
        .service(post("/sync/federation/replay").route(web::post().to(replay::by_hand)));
    for kind in Kind::ALL {
        let list = move |state: web::Data<AppState>, request: HttpRequest, payload: web::Payload| {
            id_lists::list(kind, state, request, payload)
        };
        app.service(get(&format!("/sync/federation/{}", kind.list())).route(web::get().to(list)));
    }
    // Voids are replayed with their sales.
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::VoidedSales) {
        let replay = move |state: web::Data<AppState>,
                           caller: NodeCaller,
                           request: HttpRequest,
                           payload: web::Payload| {
            replay::of_kind(kind, state, caller, request, payload)
        };
        app.service(post(&format!("/sync/federation/{}", kind.replay())).route(web::post().to(replay)));
    }
}
