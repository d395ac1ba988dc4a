//! The HTTP surface: the one table of routes, and what stands around them.
//!
//! Who may call stands in each handler's extractor: `StoreCaller` (device, v1 till or admin, its own store),
//! `PushCaller` (these, or a v1 node), `NodeCaller` (v1 node or admin), `AdminOnly`, or none (alive, ready, metrics,
//! ping, API description).
//!
//! To add an endpoint: 1. a handler in the module of its resource, 2. its route here, 3. its description in
//! [`openapi`], 4. a row in the matrix of `tests/routes.rs`.

pub mod admin;
pub mod auth;
pub mod body;
pub mod conflicts;
pub mod cors;
pub mod error;
pub mod events;
pub mod faults;
pub mod federation;
pub mod fiscal;
pub mod heal;
pub mod notifications;
pub mod openapi;
pub mod ops;
pub mod outbox;
pub mod page;
pub mod pull;
pub mod push;
pub mod rate_limit;
pub mod reads;
pub mod request_id;
pub mod snapshot;
pub mod status;
pub mod trace;
pub mod triage;

use crate::app::AppState;
use actix_web::middleware::Compress;
use actix_web::web::{self, ServiceConfig};
use error::allow_only;

/// All routes. Those of faults exist only where the node was started with `--chaos`.
pub fn routes(app: &mut ServiceConfig, state: &AppState) {
    app.configure(error::defaults);
    let get = |path: &str| web::resource(path).default_service(allow_only("GET"));
    let post = |path: &str| web::resource(path).default_service(allow_only("POST"));
    app.service(post("/sync/push").route(web::post().to(push::push)))
        .service(get("/sync/pull").route(web::get().to(pull::pull)))
        // A tenth of it over the line of a shop, to whoever can read that.
        .service(get("/sync/snapshot").wrap(Compress::default()).route(web::get().to(snapshot::snapshot)))
        .service(get("/sync/status").route(web::get().to(status::status)))
        .service(get("/sync/last-seq").route(web::get().to(status::last_seq)))
        .service(get("/sync/conflicts/audit").route(web::get().to(conflicts::audit)))
        .service(get("/sync/conflicts/unresolved").route(web::get().to(conflicts::unresolved)))
        .service(post("/sync/conflicts/{id}/resolve").route(web::post().to(conflicts::resolve)))
        .service(post("/sync/resolve-conflict").route(web::post().to(conflicts::resolve_as_v1)))
        .service(get("/sync/events/{event_id}").route(web::get().to(events::trail)))
        .service(post("/sync/heal").route(web::post().to(heal::heal)))
        .service(post("/sync/heal-projections").route(web::post().to(heal::heal_as_v1)))
        .service(get("/sync/outbox").route(web::get().to(outbox::list)))
        .service(get("/sync/outbox/stats").route(web::get().to(outbox::stats)))
        .service(post("/sync/outbox/requeue").route(web::post().to(outbox::requeue)))
        .service(get("/sync/triage").route(web::get().to(triage::triage)))
        .service(get("/ping").route(web::get().to(ops::ping)))
        .service(get("/healthz").route(web::get().to(ops::healthz)))
        .service(get("/readyz").route(web::get().to(ops::readyz)))
        .service(get("/metrics").route(web::get().to(ops::metrics)))
        .service(get("/admin/actors").route(web::get().to(ops::actors)))
        .service(
            web::resource("/admin/stores")
                .route(web::post().to(admin::create_store))
                .route(web::get().to(admin::list_stores))
                .default_service(allow_only("GET, POST")),
        )
        .service(
            web::resource("/admin/devices")
                .route(web::post().to(admin::create_device))
                .route(web::get().to(admin::list_devices))
                .default_service(allow_only("GET, POST")),
        )
        .service(
            web::resource("/admin/devices/{store_id}/{device_id}")
                .route(web::delete().to(admin::revoke_device))
                .default_service(allow_only("DELETE")),
        )
        .configure(federation::configure)
        .configure(fiscal::configure)
        .configure(reads::configure)
        .configure(notifications::configure)
        .configure(openapi::configure);
    if state.faults.is_enabled() {
        app.service(
            web::resource("/chaos/faults")
                .route(web::post().to(faults::set))
                .route(web::get().to(faults::list))
                .route(web::delete().to(faults::clear))
                .default_service(allow_only("DELETE, GET, POST")),
        );
    }
}
