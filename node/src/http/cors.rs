//! Cross-origin calls of browser tills: configured origins, exactly, with credentials.
//!
//! Wrap it inside `request_id` and the tracing logger and outside the routes: preflights are answered
//! here, before any credential is asked for, and errors get their headers too. What never will be
//! here: a wildcard.

use actix_cors::Cors;
use actix_web::{http::header, middleware::Condition};

use super::request_id::X_REQUEST_ID;

/// Headers that v1 tills send.
const ALLOWED_HEADERS: [&str; 5] =
    ["content-type", "authorization", "x-admin-key", "ngrok-skip-browser-warning", "traceparent"];

/// How long a browser may remember a preflight.
const MAX_AGE_SECONDS: usize = 3600;

/// The middleware for these origins; with none it does nothing at all.
pub fn cors(origins: &[String]) -> Condition<Cors> {
    let base = Cors::default()
        .allowed_methods(["GET", "POST", "PUT", "DELETE"])
        .allowed_headers(ALLOWED_HEADERS)
        .expose_headers([X_REQUEST_ID, header::RETRY_AFTER])
        .supports_credentials()
        .max_age(MAX_AGE_SECONDS);
    let cors = origins.iter().fold(base, |cors, origin| cors.allowed_origin(origin));
    Condition::new(!origins.is_empty(), cors)
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App, HttpResponse,
        body::MessageBody,
        dev::ServiceResponse,
        http::{Method, header::HeaderName},
        middleware::from_fn,
        test::{self, TestRequest},
        web,
    };

    use super::*;
    use crate::http::{
        error::{Problem, defaults},
        request_id::request_id,
    };

    const ORIGIN: &str = "https://till.example";

    async fn call(origins: &[&str], request: TestRequest) -> ServiceResponse<impl MessageBody> {
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let app = test::init_service(
            App::new()
                .configure(defaults)
                .route(
                    "/sync/push",
                    web::post().to(|| async { Err::<HttpResponse, _>(Problem::unauthorized()) }),
                )
                .wrap(cors(&origins))
                .wrap(from_fn(request_id)),
        )
        .await;
        test::call_service(&app, request.to_request()).await
    }

    fn preflight(origin: &str, headers: &str) -> TestRequest {
        TestRequest::default()
            .method(Method::OPTIONS)
            .uri("/sync/push")
            .insert_header((header::ORIGIN, origin))
            .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, "POST"))
            .insert_header((header::ACCESS_CONTROL_REQUEST_HEADERS, headers))
    }

    fn text(answer: &ServiceResponse<impl MessageBody>, name: HeaderName) -> Option<String> {
        answer.headers().get(name).map(|value| value.to_str().unwrap().to_lowercase())
    }

    #[actix_web::test]
    async fn a_preflight_needs_no_credential() {
        let answer =
            call(&[ORIGIN], preflight(ORIGIN, "content-type,authorization,x-admin-key,traceparent")).await;
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(text(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN).as_deref(), Some(ORIGIN));
        assert_eq!(text(&answer, header::ACCESS_CONTROL_ALLOW_CREDENTIALS).as_deref(), Some("true"));
        let allowed = text(&answer, header::ACCESS_CONTROL_ALLOW_HEADERS).unwrap();
        assert!(ALLOWED_HEADERS.iter().all(|name| allowed.contains(name)), "{allowed}");
    }

    #[actix_web::test]
    async fn errors_have_the_headers_too() {
        for (path, status) in [("/sync/push", 401), ("/nowhere", 404)] {
            let request = TestRequest::post().uri(path).insert_header((header::ORIGIN, ORIGIN));
            let answer = call(&[ORIGIN], request).await;
            assert_eq!(answer.status().as_u16(), status);
            assert_eq!(text(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN).as_deref(), Some(ORIGIN));
            let exposed = text(&answer, header::ACCESS_CONTROL_EXPOSE_HEADERS).unwrap();
            assert!(exposed.contains("x-request-id"), "{exposed}");
        }
    }

    #[actix_web::test]
    async fn other_origins_and_headers_get_nothing() {
        for (origin, headers) in [
            ("https://evil.example", "content-type"),
            (ORIGIN, "x-other"),
            ("https://till.example.evil", "content-type"),
        ] {
            let answer = call(&[ORIGIN], preflight(origin, headers)).await;
            assert_eq!(answer.status().as_u16(), 400, "{origin}");
            assert_eq!(text(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN), None);
            assert_eq!(text(&answer, header::CONTENT_TYPE).as_deref(), Some("application/problem+json"));
        }
        let plain =
            TestRequest::post().uri("/sync/push").insert_header((header::ORIGIN, "https://evil.example"));
        let answer = call(&[ORIGIN], plain).await;
        assert_eq!(answer.status().as_u16(), 401);
        assert_eq!(text(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN), None);
    }

    #[actix_web::test]
    async fn without_origins_there_are_no_headers() {
        let answer = call(&[], preflight(ORIGIN, "content-type")).await;
        assert!(answer.status().is_client_error());
        assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
    }
}
