//! `notifications`: what a shop should be told of, and that somebody has read it.
//!
//! Never here: raising one, or SQL.

use actix_web::{HttpRequest, Responder, web};
use serde::Deserialize;
use utoipa::IntoParams;
use velox_store::{NotificationRow, Store};

use super::{
    auth::StoreCaller,
    error::{Problem, allow_only},
    page::{self, List},
    reads::{Listing, found, store_of},
};

/// Registers the routes.
pub fn configure(app: &mut web::ServiceConfig) {
    app.service(
        web::resource("/stores/{store_id}/notifications")
            .route(web::get().to(list))
            .default_service(allow_only("GET")),
    )
    .service(
        web::resource("/stores/{store_id}/notifications/{id}/read")
            .route(web::post().to(read))
            .default_service(allow_only("POST")),
    );
}

/// The query of a list of notifications.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NotificationsQuery {
    /// Only those that nobody has read, or only the others.
    unread: Option<bool>,
    /// Most rows, 1 to 1000; 100 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What a store was told of, by time.
#[utoipa::path(
    get, path = "/stores/{store_id}/notifications", tag = "reads", operation_id = "list_notifications",
    params(("store_id" = uuid::Uuid, Path, description = "The store."), NotificationsQuery),
    responses((status = 200, description = "A page.", body = List<NotificationRow>)),
)]
pub async fn list(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let listing = Listing::<NotificationsQuery>::open(&caller, &request, "notifications")?;
    let query = &listing.query;
    let wanted = listing.page(query.limit.as_deref(), query.cursor.as_deref())?;
    let page = store.read_notifications(listing.scope.store_id, query.unread, wanted).await?;
    listing.answer(&store, page).await
}

/// Marks a notification as read; the first time counts.
#[utoipa::path(
    post, path = "/stores/{store_id}/notifications/{id}/read", tag = "reads", operation_id = "read_notification",
    params(
        ("store_id" = uuid::Uuid, Path, description = "The store."),
        ("id" = uuid::Uuid, Path, description = "The notification."),
    ),
    responses((status = 200, description = "It, as it is now.", body = NotificationRow)),
)]
pub async fn read(
    caller: StoreCaller,
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<impl Responder, Problem> {
    let store_id = store_of(&caller, &request)?;
    found(store.mark_notification_read(store_id, page::path_id(&request, "id")?).await?)
}
