//! `/sync/federation/…`: what nodes say to each other, and how it goes between them.
//!
//! To add a call of a native peer: take a `Signed` request by [`signed::read`], which checks everything that a
//! stranger could get wrong.

pub mod reconcile;
pub mod relay;
pub mod signed;
pub mod status;

use super::error::allow_only;
use actix_web::web::{self, ServiceConfig};

/// The routes.
pub fn configure(app: &mut ServiceConfig) {
    let get = |path: &str| web::resource(path).default_service(allow_only("GET"));
    let post = |path: &str| web::resource(path).default_service(allow_only("POST"));
    app.service(post("/sync/federation/relay").route(web::post().to(relay::relay)))
        .service(post("/sync/federation/reconcile").route(web::post().to(reconcile::reconcile)))
        .service(post("/sync/federation/events").route(web::post().to(reconcile::events)))
        .service(post("/sync/federation/auto-reconcile").route(web::post().to(reconcile::auto_reconcile)))
        .service(get("/sync/federation/probe").route(web::get().to(status::probe)))
        .service(get("/sync/federation/status").route(web::get().to(status::status)));
}
