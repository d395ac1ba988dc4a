//! The description of the HTTP interface: OpenAPI 3.1 at `/openapi.json`, a page to browse it at `/docs`.
//!
//! The page is compiled in and loads nothing from elsewhere. Reads and notifications are described beside
//! their handlers, the other calls in the modules below. What never will be here: behaviour.
//!
//! To add a call: 1. `#[utoipa::path]` on its handler or in a module below, with one of the tags, which give it
//! its callers and its problems, 2. its name in the list of `Document`.

use std::sync::LazyLock;

use actix_web::{
    HttpResponse, Responder,
    http::header,
    middleware::DefaultHeaders,
    web::{self, Redirect},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, Components, Ref,
        path::Operation,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    conflicts,
    error::{ProblemBody, allow_only},
    events, fiscal, notifications, outbox, reads, triage,
};

mod federation;
mod operations;
mod sync;

/// What the page may load: itself, and the description.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The name under which the answer of every problem is described once, see [`operations::Problem`].
const PROBLEM: &str = "Problem";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Velox node",
        description = "Synchronises the tills of shops and answers what they have done. \
            Every answer has `x-request-id`; every error is a problem (RFC 9457).",
    ),
    paths(
        sync::push,
        sync::pull,
        sync::status,
        sync::last_seq,
        sync::snapshot,
        sync::resolve_conflict,
        sync::resolve_conflict_as_v1,
        conflicts::audit,
        conflicts::unresolved,
        events::trail,
        outbox::list,
        outbox::stats,
        outbox::requeue,
        triage::triage,
        triage::facts,
        triage::heal,
        reads::sales::list,
        reads::sales::get,
        reads::debts::list,
        reads::debts::get,
        reads::catalogue::products,
        reads::catalogue::customers,
        reads::cash::sessions,
        reads::cash::ledger,
        reads::stock::list,
        reads::stock::movements,
        fiscal::reserve,
        fiscal::lists::active_range,
        fiscal::lists::device_ranges,
        fiscal::consume,
        fiscal::report,
        fiscal::lists::ranges,
        fiscal::lists::ledger,
        fiscal::declare,
        notifications::list,
        notifications::read,
        federation::sales_ids,
        federation::voided_sales_ids,
        federation::session_ids,
        federation::debt_ids,
        federation::debt_payment_ids,
        federation::inventory_movement_ids,
        federation::replay_sales,
        federation::replay_sessions,
        federation::replay_debts,
        federation::replay_debt_payments,
        federation::replay_inventory,
        federation::reconcile_inventory_stock,
        federation::store_status,
        federation::replay,
        federation::auto_reconcile,
        federation::status,
        federation::relay,
        federation::reconcile,
        federation::events,
        federation::probe,
        operations::heal,
        operations::heal_projections,
        operations::create_store,
        operations::list_stores,
        operations::create_device,
        operations::list_devices,
        operations::revoke_device,
        operations::actors,
        operations::list_faults,
        operations::set_fault,
        operations::clear_faults,
        operations::ping,
        operations::healthz,
        operations::readyz,
        operations::metrics,
    ),
    components(schemas(ProblemBody), responses(operations::Problem)),
    tags(
        (name = "sync", description = "What tills call; the wire of v1 with additions."),
        (name = "reads", description = "What a store has, its conflicts and its events. Lists go on by `cursor`; times are RFC 3339, \
            decimals are strings."),
        (name = "federation", description = "What v1 nodes call, each for its stores; the id lists also for native peers, \
            which sign their requests."),
        (name = "peers", description = "What native nodes call, each for its stores; every request is signed."),
        (name = "admin", description = "For the admin key alone."),
        (name = "operations", description = "For those who run the node; no credential."),
    ),
    modifiers(&Callers, &Problems),
)]
struct Document;

/// The whole description.
pub fn document() -> openapi::OpenApi {
    Document::openapi()
}

/// Registers `/openapi.json` and `/docs`; both need no credential.
pub fn configure(app: &mut web::ServiceConfig) {
    // Relative, so that it is found behind a proxy's prefix too; the validator would be a call elsewhere.
    let config = Config::new(["../openapi.json"]).validator_url("none");
    app.service(web::resource("/openapi.json").get(json).default_service(allow_only("GET"))).service(
        web::scope("/docs")
            .wrap(DefaultHeaders::new().add((header::CONTENT_SECURITY_POLICY, DOCS_POLICY)))
            .route("", web::get().to(async || Redirect::to("docs/").permanent()))
            .service(SwaggerUi::new("/{_:.*}").config(config)),
    );
}

async fn json() -> impl Responder {
    // It is the same for the life of the program, and not small.
    static JSON: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());
    HttpResponse::Ok().content_type("application/json").body(JSON.as_str())
}

/// Every operation of the document with its first tag.
fn operations(document: &mut openapi::OpenApi) -> impl Iterator<Item = (String, &mut Operation)> {
    let items = document.paths.paths.values_mut();
    items.flat_map(|item| [&mut item.get, &mut item.post, &mut item.put, &mut item.delete]).flatten().map(
        |operation| {
            let tag = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
            (tag, operation)
        },
    )
}

/// Says who may call.
struct Callers;

impl Modify for Callers {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for (tag, operation) in operations(document) {
            let callers: &[&str] = match tag.as_str() {
                "sync" | "reads" => &["device_token", "v1_jwt", "admin_key"],
                "federation" => &["v1_secret", "admin_key"],
                "peers" => &["peer_signature"],
                "admin" => &["admin_key"],
                _ => &[],
            };
            let requirement = |name: &&str| SecurityRequirement::new(*name, [""; 0]);
            operation.security = Some(callers.iter().map(requirement).collect());
        }
        let bearer = |http: HttpBuilder, description: &str| {
            SecurityScheme::Http(http.scheme(HttpAuthScheme::Bearer).description(Some(description)).build())
        };
        let device = bearer(HttpBuilder::new(), "A device's token: its own store and device.");
        let jwt = bearer(HttpBuilder::new().bearer_format("JWT"), "A JWT of v1: any device of its store.");
        let secret =
            bearer(HttpBuilder::new(), "The secret that a v1 node shares with this one: its stores.");
        let admin = bearer(HttpBuilder::new(), "The admin key: everything.");
        let signature = "HMAC-SHA-256 over method, path and query, SHA-256 of the body, `x-velox-time`, `x-velox-nonce` \
            and `x-velox-key`, joined by line feeds; lower-case hex.";
        let signature = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            "x-velox-signature",
            signature,
        )));
        let components = document.components.get_or_insert_with(Components::new);
        for (name, scheme) in [
            ("device_token", device),
            ("v1_jwt", jwt),
            ("v1_secret", secret),
            ("admin_key", admin),
            ("peer_signature", signature),
        ] {
            components.add_security_scheme(name, scheme);
        }
    }
}

/// Adds the problems that every call of a kind may answer with.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for (tag, operation) in operations(document) {
            let statuses: &[&str] = match tag.as_str() {
                "sync" => &["400", "401", "403", "429", "503"],
                "reads" => &["400", "401", "403", "404", "429", "503"],
                "admin" | "federation" | "peers" => &["400", "401", "403", "503"],
                _ => &[],
            };
            for status in statuses {
                let responses = &mut operation.responses.responses;
                responses
                    .entry((*status).to_owned())
                    .or_insert_with(|| Ref::from_response_name(PROBLEM).into());
            }
        }
    }
}

#[cfg(test)]
mod tests;
