//! The one place where faults become answers: RFC 9457 problems, with the two fields that v1 tills
//! read (`statusCode`, `message`).
//!
//! A v1 till looks at `message` alone: a text with `timeout` in it is tried again for ever, any other
//! counts towards giving the events up. So every status that does not condemn the body itself carries
//! [`TRY_AGAIN`]. Nothing of a request is ever echoed, and no SQL, path or version shown. What never
//! will be here: the decision that something is a fault.

use std::{borrow::Cow, error::Error as StdError};

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError, Route,
    error::{JsonPayloadError, PathError, PayloadError, QueryPayloadError},
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web,
};
use serde::Serialize;
use utoipa::ToSchema;

/// Media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// `message` of every 401, 403, 408, 413, 429 and 5xx. It must contain `timeout`, and neither a digit
/// nor the word v1 tills take for a final refusal; a test holds it to that.
pub const TRY_AGAIN: &str = "timeout: the node did not take this request, it may be sent again later";

/// Greatest body of JSON calls other than a push; they are all small.
pub const JSON_LIMIT: usize = 256 * 1024;

/// Seconds after which a database that is away may be tried again.
const DATABASE_RETRY_AFTER: u32 = 2;

/// The body of a problem, as it is sent and as the API description shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// `about:blank`: the status says what kind of problem it is, `code` which.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, for people.
    pub detail: String,
    /// What is wrong, for programs: upper case, stable.
    pub code: &'static str,
    /// The same as header `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The HTTP status again, under v1's name.
    #[serde(rename = "statusCode")]
    pub status_code: u16,
    /// v1's text: what a v1 till decides by.
    pub message: String,
}

/// A fault on its way to being an answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    retry_after: Option<u32>,
    allow: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, allow: None }
    }

    /// 400. For a push only where the body can never be read as one: a v1 till gives the events up.
    pub fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401, the same for a credential that is missing, malformed, expired or revoked.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "A valid credential is needed.")
    }

    /// 401 of a peer's request; the code says which part of its signature fails.
    pub fn unsigned(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 403.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", "This credential does not allow the call.")
    }

    /// 404 of a route that does not exist.
    pub fn unknown_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNKNOWN_ROUTE", "There is no such route.")
    }

    /// 404 of a thing; also said of things of another store.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", detail)
    }

    /// 405. `allow`: the methods that are served, as `GET, POST`.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let detail = "This route does not serve the method.";
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail);
        Self { allow: Some(allow), ..problem }
    }

    /// 408: the body did not come in time, or its connection broke.
    pub fn request_timeout() -> Self {
        let detail = "The body did not arrive completely and in time.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", detail)
    }

    /// 409.
    pub fn conflict(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 410; the detail says how to start anew.
    pub fn gone(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::GONE, code, detail)
    }

    /// 413.
    pub fn payload_too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "PAYLOAD_TOO_LARGE",
            "The request is too large; send it in parts.",
        )
    }

    /// 415 of a body's media type.
    pub fn unsupported_media_type() -> Self {
        let detail = "The body must be sent as application/json.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", detail)
    }

    /// 415 of a body's encoding.
    pub fn unsupported_encoding() -> Self {
        let detail = "The body may be encoded by gzip once, or not at all.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_ENCODING", detail)
    }

    /// 429. `retry_after`: whole seconds.
    pub fn rate_limited(retry_after: u32) -> Self {
        let problem =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "Too many requests; slow down.");
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// 500. The error is logged here, once, and not shown.
    pub fn internal(error: &(dyn StdError + 'static)) -> Self {
        tracing::error!(error, "a request failed by a fault of ours");
        Self::fault(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// 503. `retry_after`: whole seconds.
    pub fn unavailable(code: &'static str, retry_after: u32) -> Self {
        let detail = "The node cannot serve this request now.";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// 503 without a working database. The error is logged here, once, and not shown.
    pub fn database(error: &(dyn StdError + 'static)) -> Self {
        tracing::warn!(error, "the database did not serve a request");
        Self::unavailable("DATABASE_UNAVAILABLE", DATABASE_RETRY_AFTER)
    }

    /// The problem of a bare status, for answers that were not made by this code.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::unauthorized(),
            StatusCode::FORBIDDEN => Self::forbidden(),
            StatusCode::NOT_FOUND => Self::unknown_route(),
            StatusCode::REQUEST_TIMEOUT => Self::request_timeout(),
            StatusCode::PAYLOAD_TOO_LARGE => Self::payload_too_large(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::unsupported_media_type(),
            StatusCode::SERVICE_UNAVAILABLE => Self::unavailable("UNAVAILABLE", 1),
            status if status.is_client_error() => {
                Self::new(status, "BAD_REQUEST", "The request was refused.")
            }
            status => Self::fault(status),
        }
    }

    fn fault(status: StatusCode) -> Self {
        Self::new(status, "INTERNAL_ERROR", "The node failed on this request.")
    }

    /// The code for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The body, with the id of the request where it is known.
    pub fn body(&self, request_id: Option<&str>) -> ProblemBody {
        let message = if sent_again(self.status) { TRY_AGAIN.to_owned() } else { self.detail.to_string() };
        ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail.to_string(),
            code: self.code,
            request_id: request_id.map(str::to_owned),
            status_code: self.status.as_u16(),
            message,
        }
    }

    /// The body as JSON.
    pub fn json(&self, request_id: Option<&str>) -> String {
        // The body has texts and numbers alone, which always serialise.
        serde_json::to_string(&self.body(request_id)).unwrap_or_default()
    }
}

/// Whether a v1 till must keep the events of a request that was answered so.
fn sent_again(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 408 | 413 | 429) || status.is_server_error()
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponseBuilder::new(self.status);
        answer.insert_header((header::CONTENT_TYPE, PROBLEM_JSON));
        if let Some(seconds) = self.retry_after {
            answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(methods) = self.allow {
            answer.insert_header((header::ALLOW, HeaderValue::from_static(methods)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        answer.body(self.json(None))
    }
}

impl From<velox_store::Error> for Problem {
    /// Whatever storage says is a fault of ours, and a 503: a v1 till must keep its events.
    fn from(error: velox_store::Error) -> Self {
        Self::database(&error)
    }
}

/// The fault of a body that could not be read from its connection.
pub fn payload_problem(error: &PayloadError) -> Problem {
    match error {
        PayloadError::Overflow => Problem::payload_too_large(),
        PayloadError::UnknownLength | PayloadError::EncodingCorrupted => {
            Problem::bad_request("INVALID_BODY", "The body is damaged.")
        }
        // The rest is a connection that broke or went silent: not the fault of what was sent.
        _ => Problem::request_timeout(),
    }
}

fn json_problem(error: &JsonPayloadError) -> Problem {
    match error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            Problem::payload_too_large()
        }
        JsonPayloadError::ContentType => Problem::unsupported_media_type(),
        JsonPayloadError::Payload(error) => payload_problem(error),
        _ => Problem::bad_request("INVALID_BODY", "The body is not the JSON that this call takes."),
    }
}

fn query_problem(_: &QueryPayloadError) -> Problem {
    Problem::bad_request("INVALID_QUERY", "The query is not what this call takes.")
}

fn path_problem(_: &PathError) -> Problem {
    Problem::bad_request("INVALID_PATH", "A part of the path is not what this call takes.")
}

/// Makes the extractors answer with problems, and unknown routes with 404, whatever the credential.
/// Call on the `App` itself.
pub fn defaults(app: &mut web::ServiceConfig) {
    app.app_data(
        web::JsonConfig::default().limit(JSON_LIMIT).error_handler(|error, _| json_problem(&error).into()),
    )
    .app_data(web::QueryConfig::default().error_handler(|error, _| query_problem(&error).into()))
    .app_data(web::PathConfig::default().error_handler(|error, _| path_problem(&error).into()))
    .default_service(web::to(|| async { Err::<HttpResponse, _>(Problem::unknown_route()) }));
}

/// The default service of a resource: 405 with the methods that it serves. actix's own has no body.
pub fn allow_only(allow: &'static str) -> Route {
    web::to(move || async move { Err::<HttpResponse, _>(Problem::method_not_allowed(allow)) })
}

#[cfg(test)]
mod tests;
