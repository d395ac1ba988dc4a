//! The id of a request: kept or made, on every answer, and in every problem's body.
//!
//! This is the outermost middleware, so it also gives errors that were not made by this code (of
//! actix, of a library) the shape of a problem. What never will be here: a status that changes.

use actix_web::{
    Error, HttpMessage, HttpResponse,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
};
use uuid::Uuid;

use super::error::{PROBLEM_JSON, Problem};

/// The header, on requests and on answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a caller.
const MAX_LENGTH: usize = 128;

/// The id of the request, in its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The id of a request that came through [`request_id`].
    pub fn of(request: &impl HttpMessage) -> Option<Self> {
        request.extensions().get::<Self>().cloned()
    }

    /// The id as text, safe to be logged.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes over the caller's id if there is exactly one and it is harmless.
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(X_REQUEST_ID);
        let text = values.next()?.to_str().ok()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let sound = (1..=MAX_LENGTH).contains(&text.len()) && text.chars().all(plain);
        (sound && values.next().is_none()).then(|| Self(text.to_owned()))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "at the edge, where no id is given; nothing depends on its value"
    )]
    fn fresh() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    fn header(&self) -> HeaderValue {
        // Letters, digits and ._- are always a header's value.
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("-"))
    }
}

/// The middleware: `.wrap(from_fn(request_id))`, after all others, so that it is the outermost.
pub async fn request_id<B>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error>
where
    B: MessageBody + 'static,
{
    let id = RequestId::from_headers(request.headers()).unwrap_or_else(RequestId::fresh);
    request.extensions_mut().insert(id.clone());
    match next.call(request).await {
        Ok(answer) => {
            let problem = problem_of(answer.response());
            let mut answer = match problem {
                Some(problem) => {
                    let json = problem.json(Some(id.as_str()));
                    let mut answer = answer.map_body(|_, _| EitherBody::right(BoxBody::new(json)));
                    describe(answer.headers_mut());
                    answer
                }
                None => answer.map_into_left_body(),
            };
            answer.headers_mut().insert(X_REQUEST_ID, id.header());
            Ok(answer)
        }
        Err(mut error) => {
            // A middleware failed and has consumed the request: the error becomes an answer later.
            let problem = error
                .as_error::<Problem>()
                .cloned()
                .unwrap_or_else(|| Problem::of_status(error.as_response_error().status_code()));
            error.add_response_mapper(move |answer| {
                let mut answer = answer.set_body(problem.json(Some(id.as_str()))).map_into_boxed_body();
                describe(answer.headers_mut());
                answer.headers_mut().insert(X_REQUEST_ID, id.header());
                answer
            });
            Err(error)
        }
    }
}

/// The problem that an answer's body should be: of its error, or of its status where nobody wrote a
/// body. Answers with a body of their own (a 503 that lists what is not ready) are left alone.
fn problem_of<B: MessageBody>(answer: &HttpResponse<B>) -> Option<Problem> {
    let status = answer.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    match answer.error() {
        Some(error) => {
            Some(error.as_error::<Problem>().cloned().unwrap_or_else(|| Problem::of_status(status)))
        }
        None => matches!(answer.body().size(), BodySize::None | BodySize::Sized(0))
            .then(|| Problem::of_status(status)),
    }
}

/// Headers of the new body; those of the old one would lie.
fn describe(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App,
        error::ErrorImATeapot,
        http::StatusCode,
        middleware::from_fn,
        test::{self, TestRequest},
        web,
    };
    use serde_json::Value;

    use super::*;
    use crate::http::error::defaults;

    async fn failing(
        request: ServiceRequest,
        next: Next<impl MessageBody>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        if request.path() == "/middleware" {
            return Err(Problem::rate_limited(7).into());
        }
        next.call(request).await
    }

    async fn answered(request: TestRequest) -> (StatusCode, HeaderMap, Value) {
        let app = test::init_service(
            App::new()
                .configure(defaults)
                .route(
                    "/ok",
                    web::get().to(|id: web::ReqData<RequestId>| async move { id.as_str().to_owned() }),
                )
                .route("/bare", web::get().to(HttpResponse::BadGateway))
                .route("/foreign", web::get().to(|| async { Err::<String, _>(ErrorImATeapot("SELECT 1")) }))
                .route(
                    "/own",
                    web::get().to(|| async {
                        HttpResponse::ServiceUnavailable().json(serde_json::json!({"db": false}))
                    }),
                )
                .wrap(from_fn(failing))
                .wrap(from_fn(request_id)),
        )
        .await;
        match test::try_call_service(&app, request.to_request()).await {
            Ok(answer) => {
                let (status, headers) = (answer.status(), answer.headers().clone());
                let body = test::read_body(answer).await;
                let json = serde_json::from_slice(&body)
                    .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
                (status, headers, json)
            }
            Err(error) => {
                let answer = error.error_response();
                let (status, headers) = (answer.status(), answer.headers().clone());
                let body = actix_web::body::to_bytes(answer.into_body()).await.unwrap();
                (status, headers, serde_json::from_slice(&body).unwrap())
            }
        }
    }

    fn id(headers: &HeaderMap) -> &str {
        headers.get(X_REQUEST_ID).unwrap().to_str().unwrap()
    }

    #[actix_web::test]
    async fn a_harmless_id_is_kept() {
        let (_, headers, body) =
            answered(TestRequest::get().uri("/ok").insert_header((X_REQUEST_ID, "Till-7_a.b"))).await;
        assert_eq!((id(&headers), &body), ("Till-7_a.b", &Value::String("Till-7_a.b".into())));
    }

    #[actix_web::test]
    async fn other_ids_are_replaced() {
        let long = "a".repeat(MAX_LENGTH + 1);
        for bad in ["", "a b", "a\tb", "<x>", "{\"a\"}", long.as_str()] {
            let (_, headers, _) =
                answered(TestRequest::get().uri("/ok").insert_header((X_REQUEST_ID, bad))).await;
            assert!(Uuid::parse_str(id(&headers)).is_ok(), "{bad}");
        }
        let two = TestRequest::get()
            .uri("/ok")
            .append_header((X_REQUEST_ID, "a"))
            .append_header((X_REQUEST_ID, "b"));
        assert!(Uuid::parse_str(id(&answered(two).await.1)).is_ok());
    }

    #[actix_web::test]
    async fn every_error_is_a_problem_with_the_id() {
        for (path, status, code) in [
            ("/nowhere", 404, "UNKNOWN_ROUTE"),
            ("/bare", 502, "INTERNAL_ERROR"),
            ("/foreign", 418, "BAD_REQUEST"),
            ("/middleware", 429, "RATE_LIMITED"),
        ] {
            let (answered_status, headers, body) = answered(TestRequest::get().uri(path)).await;
            assert_eq!(
                (answered_status.as_u16(), body["code"].as_str()),
                (status, Some(code)),
                "{path}: {body}"
            );
            assert_eq!(body["request_id"], id(&headers), "{path}");
            assert_eq!(headers.get(header::CONTENT_TYPE).unwrap(), PROBLEM_JSON);
            assert_eq!(headers.contains_key(header::RETRY_AFTER), status == 429);
            assert!(!body.to_string().contains("SELECT"));
        }
    }

    #[actix_web::test]
    async fn an_answer_of_its_own_stays() {
        let (status, headers, body) = answered(TestRequest::get().uri("/own")).await;
        assert_eq!((status.as_u16(), body["db"].as_bool()), (503, Some(false)));
        assert!(!id(&headers).is_empty());
    }
}
