//! Tests of problems and of the default handlers.

use actix_web::{
    App,
    test::{self, TestRequest},
};
use serde_json::Value;

use super::*;

fn every_problem() -> Vec<Problem> {
    let error = std::io::Error::other("SELECT secret FROM /etc/passwd");
    vec![
        Problem::bad_request("INVALID_BODY", "Plain words."),
        Problem::unauthorized(),
        Problem::forbidden(),
        Problem::unknown_route(),
        Problem::not_found("No such sale."),
        Problem::method_not_allowed("GET, POST"),
        Problem::request_timeout(),
        Problem::conflict("RANGE_EXHAUSTED", "No number is left."),
        Problem::gone("CURSOR_GONE", "Start anew without a cursor."),
        Problem::payload_too_large(),
        Problem::unsupported_media_type(),
        Problem::unsupported_encoding(),
        Problem::rate_limited(3),
        Problem::internal(&error),
        Problem::unavailable("OVERLOADED", 1),
        Problem::database(&error),
    ]
}

#[test]
fn the_message_of_what_is_sent_again_is_fixed() {
    assert!(TRY_AGAIN.contains("timeout"));
    assert!(!TRY_AGAIN.contains(|c: char| c.is_ascii_digit()));
    assert!(!TRY_AGAIN.to_lowercase().contains("validation"));
    for problem in every_problem() {
        let body = problem.body(None);
        let again = matches!(body.status, 401 | 403 | 408 | 413 | 429 | 500..);
        assert_eq!(body.message == TRY_AGAIN, again, "{body:?}");
        assert!(again || !body.message.contains("timeout"), "{body:?}");
        assert_eq!(body.status_code, body.status);
    }
    for status in 400..600 {
        let Ok(status) = StatusCode::from_u16(status) else {
            continue;
        };
        let body = Problem::of_status(status).body(None);
        assert_eq!(body.status, status.as_u16());
        assert_eq!(body.message == TRY_AGAIN, sent_again(status), "{body:?}");
    }
}

#[actix_web::test]
async fn a_problem_has_every_field_and_its_headers() {
    for problem in every_problem() {
        let answer = problem.error_response();
        let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header(header::CONTENT_TYPE).as_deref(), Some(PROBLEM_JSON));
        let status = problem.status_code().as_u16();
        assert_eq!(header(header::RETRY_AFTER).is_some(), matches!(status, 429 | 503), "{problem}");
        assert_eq!(header(header::ALLOW).is_some(), status == 405, "{problem}");
        assert_eq!(header(header::WWW_AUTHENTICATE).is_some(), status == 401, "{problem}");
        let body: Value = serde_json::from_str(&problem.json(Some("r-1"))).unwrap();
        for field in ["type", "title", "status", "detail", "code", "request_id", "statusCode", "message"] {
            assert!(!body[field].is_null(), "{field} of {problem}");
        }
        assert!(!body.to_string().contains("SELECT") && !body.to_string().contains("passwd"));
    }
}

#[derive(serde::Deserialize)]
struct Small {
    #[expect(dead_code, reason = "only its type matters")]
    n: u32,
}

async fn answered(request: TestRequest) -> (u16, Option<String>, Value) {
    let app = test::init_service(
        App::new()
            .configure(defaults)
            .service(
                web::resource("/json")
                    .route(web::post().to(|_: web::Json<Small>| async { "ok" }))
                    .default_service(allow_only("POST")),
            )
            .route("/query", web::get().to(|_: web::Query<Small>| async { "ok" }))
            .route("/path/{n}", web::get().to(|_: web::Path<u32>| async { "ok" })),
    )
    .await;
    let answer = test::call_service(&app, request.to_request()).await;
    let status = answer.status().as_u16();
    let allow = answer.headers().get(header::ALLOW).map(|value| value.to_str().unwrap().to_owned());
    let body = test::read_body(answer).await;
    (status, allow, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[actix_web::test]
async fn extractors_and_routes_answer_with_problems() {
    let json = |text: &'static str| {
        TestRequest::post()
            .uri("/json")
            .insert_header((header::CONTENT_TYPE, "application/json"))
            .set_payload(text)
    };
    let big = " ".repeat(JSON_LIMIT + 1);
    for (request, status, code) in [
        (TestRequest::get().uri("/nowhere"), 404, "UNKNOWN_ROUTE"),
        (
            TestRequest::post().uri("/nowhere").insert_header((header::AUTHORIZATION, "Bearer x")),
            404,
            "UNKNOWN_ROUTE",
        ),
        (TestRequest::get().uri("/json"), 405, "METHOD_NOT_ALLOWED"),
        (json("{hunter2"), 400, "INVALID_BODY"),
        (json(r#"{"n":"hunter2"}"#), 400, "INVALID_BODY"),
        (TestRequest::post().uri("/json").set_payload(r#"{"n":1}"#), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (
            TestRequest::post()
                .uri("/json")
                .insert_header((header::CONTENT_TYPE, "application/json"))
                .set_payload(big),
            413,
            "PAYLOAD_TOO_LARGE",
        ),
        (TestRequest::get().uri("/query?n=hunter2"), 400, "INVALID_QUERY"),
        (TestRequest::get().uri("/path/hunter2"), 400, "INVALID_PATH"),
    ] {
        let (answered_status, allow, body) = answered(request).await;
        assert_eq!((answered_status, body["code"].as_str()), (status, Some(code)), "{body}");
        assert_eq!(allow.as_deref(), (status == 405).then_some("POST"));
        assert!(!body.to_string().contains("hunter2"));
    }
    assert_eq!(answered(json(r#"{"n":1}"#)).await.0, 200);
}
