//! Tests of the bounds, by real payloads through a test server.

use std::io::Write;

use actix_web::{
    App, HttpResponse, ResponseError,
    dev::Payload as DevPayload,
    error::PayloadError,
    http::header::HeaderName,
    test::{self, TestRequest},
    web,
};
use flate2::{Compression, write::GzEncoder};
use futures_util::stream;

use super::*;

const SMALL: Limits = Limits { bytes: 64 * KIB, drain: 128 * KIB, deadline: Duration::from_secs(30) };

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn json() -> (HeaderName, &'static str) {
    (header::CONTENT_TYPE, "application/json")
}

async fn extract(request: TestRequest) -> (HttpRequest, Payload) {
    let (request, mut payload) = request.to_http_parts();
    let payload = <Payload as actix_web::FromRequest>::from_request(&request, &mut payload).await.unwrap();
    (request, payload)
}

async fn read_of(request: TestRequest, gate: &IngestGate) -> Result<(Bytes, IngestPermit), Problem> {
    let (request, payload) = extract(request).await;
    read(&request, payload, gate, SMALL).await
}

fn status<T>(result: Result<T, Problem>) -> u16 {
    result.err().map_or(200, |problem| problem.status_code().as_u16())
}

#[actix_web::test]
async fn a_plain_body_is_kept_byte_for_byte_and_counted() {
    let gate = IngestGate::new(1024 * KIB);
    let body = vec![b'x'; 60 * KIB];
    let (read, permit) =
        read_of(TestRequest::post().insert_header(json()).set_payload(body.clone()), &gate).await.unwrap();
    assert_eq!(read, body);
    assert!(permit.bytes() >= body.len() && permit.bytes() <= SMALL.bytes, "{}", permit.bytes());
    assert_eq!(gate.available(), 1024 * KIB - permit.bytes());
    drop(permit);
    assert_eq!(gate.available(), 1024 * KIB);
}

#[test]
fn a_body_never_takes_more_room_than_its_limit_however_its_chunks_are_cut() {
    for first in [1, 1000, 4097, 8191] {
        let gate = IngestGate::new(SMALL.bytes);
        let mut buffer = Buffer::new(false, SMALL.bytes, IngestPermit::empty(&gate)).unwrap();
        buffer.write(&vec![b'x'; first]).unwrap();
        for chunk in vec![b'x'; SMALL.bytes - first].chunks(1021) {
            buffer.write(chunk).unwrap_or_else(|stop| panic!("{stop:?} after a first chunk of {first}"));
        }
    }
}

#[actix_web::test]
async fn gzip_is_inflated_also_of_several_members() {
    let gate = IngestGate::default();
    let mut sent = gzip(b"{\"a\":");
    sent.extend(gzip(b"1}"));
    for name in ["gzip", "GZIP", "x-gzip"] {
        let request = TestRequest::post()
            .insert_header(json())
            .insert_header((header::CONTENT_ENCODING, name))
            .set_payload(sent.clone());
        assert_eq!(read_of(request, &gate).await.unwrap().0, "{\"a\":1}", "{name}");
    }
    assert_eq!(gate.available(), INGEST_BYTES);
}

#[actix_web::test]
async fn damaged_gzip_is_400() {
    let gate = IngestGate::default();
    let sound = gzip(&[b'x'; 5000]);
    let mut wrong_sum = sound.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    let mut trailing = sound.clone();
    trailing.extend(b"trailing");
    for bad in [
        b"plain".to_vec(),
        sound[..sound.len() - 3].to_vec(),
        sound[..5].to_vec(),
        Vec::new(),
        wrong_sum,
        trailing,
    ] {
        let request = TestRequest::post()
            .insert_header(json())
            .insert_header((header::CONTENT_ENCODING, "gzip"))
            .set_payload(bad.clone());
        assert_eq!(status(read_of(request, &gate).await), 400, "{bad:?}");
    }
    assert_eq!(gate.available(), INGEST_BYTES);
}

#[actix_web::test]
async fn the_limit_counts_inflated_bytes() {
    let gate = IngestGate::default();
    for (length, expected) in [(SMALL.bytes, 200), (SMALL.bytes + 1, 413), (50 * 1024 * KIB, 413)] {
        let sent = gzip(&vec![b' '; length]);
        assert!(sent.len() < SMALL.bytes);
        let request = TestRequest::post()
            .insert_header(json())
            .insert_header((header::CONTENT_ENCODING, "gzip"))
            .set_payload(sent);
        assert_eq!(status(read_of(request, &gate).await), expected, "{length}");
        assert_eq!(gate.available(), INGEST_BYTES);
    }
    for (length, expected) in [(SMALL.bytes, 200), (SMALL.bytes + 1, 413)] {
        let request = TestRequest::post().insert_header(json()).set_payload(vec![b' '; length]);
        assert_eq!(status(read_of(request, &gate).await), expected, "{length}");
    }
    // Members that yield nothing must not go on for ever.
    let empty = gzip(b"").repeat(SMALL.bytes / 20 + 1);
    let request = TestRequest::post()
        .insert_header(json())
        .insert_header((header::CONTENT_ENCODING, "gzip"))
        .set_payload(empty);
    assert_eq!(status(read_of(request, &gate).await), 413);
}

#[actix_web::test]
async fn types_and_encodings() {
    let gate = IngestGate::default();
    for (content_type, expected) in [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/json;x=y", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonp", 415),
        ("", 415),
    ] {
        let request =
            TestRequest::post().insert_header((header::CONTENT_TYPE, content_type)).set_payload("{}");
        assert_eq!(status(read_of(request, &gate).await), expected, "{content_type}");
    }
    assert_eq!(status(read_of(TestRequest::post().set_payload("{}"), &gate).await), 415);
    let two = TestRequest::post().append_header(json()).append_header((header::CONTENT_TYPE, "text/plain"));
    assert_eq!(status(read_of(two.set_payload("{}"), &gate).await), 415);
    for (encoding, expected) in [
        ("identity", 200),
        ("", 200),
        ("br", 415),
        ("deflate", 415),
        ("gzip, gzip", 415),
        ("identity, gzip", 415),
        ("zstd", 415),
    ] {
        let request = TestRequest::post()
            .insert_header(json())
            .insert_header((header::CONTENT_ENCODING, encoding))
            .set_payload("{}");
        assert_eq!(status(read_of(request, &gate).await), expected, "{encoding}");
    }
}

#[actix_web::test]
async fn no_room_is_503_and_gives_back_what_was_taken() {
    let gate = IngestGate::new(16 * KIB);
    let answer =
        read_of(TestRequest::post().insert_header(json()).set_payload(vec![b'x'; 40 * KIB]), &gate).await;
    let problem = answer.unwrap_err();
    assert_eq!(problem.status_code().as_u16(), 503);
    assert_eq!(problem.error_response().headers().get(header::RETRY_AFTER).unwrap(), "1");
    assert_eq!(gate.available(), 16 * KIB);
    let small = read_of(TestRequest::post().insert_header(json()).set_payload("{}"), &gate).await;
    assert_eq!(status(small), 200);
}

/// A payload that a test feeds by hand; counts what was read of it.
fn payload_of(chunks: impl futures_util::Stream<Item = Result<Bytes, PayloadError>> + 'static) -> DevPayload {
    DevPayload::Stream { payload: Box::pin(chunks) }
}

async fn read_stream(
    chunks: impl futures_util::Stream<Item = Result<Bytes, PayloadError>> + 'static,
    limits: Limits,
) -> Result<(Bytes, IngestPermit), Problem> {
    let request = TestRequest::post().insert_header(json()).to_http_request();
    let mut payload = payload_of(chunks);
    let payload = <Payload as actix_web::FromRequest>::from_request(&request, &mut payload).await.unwrap();
    read(&request, payload, &IngestGate::default(), limits).await
}

#[actix_web::test]
async fn a_refused_body_is_drained_up_to_the_bound() {
    for (sent_kib, read_kib) in [(100, 100), (1000, SMALL.drain / KIB + 1)] {
        let read = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = std::rc::Rc::clone(&read);
        let chunks = stream::iter(0..sent_kib).map(move |_| {
            count.set(count.get() + 1);
            Ok(Bytes::from(vec![b'x'; KIB]))
        });
        assert_eq!(status(read_stream(chunks, SMALL).await), 413);
        assert_eq!(read.get(), read_kib);
    }
}

#[actix_web::test]
async fn a_body_that_trickles_or_breaks_is_408() {
    let limits = Limits { deadline: Duration::from_millis(50), ..SMALL };
    let silent = stream::iter([Ok(Bytes::from_static(b"{"))]).chain(stream::pending());
    assert_eq!(status(read_stream(silent, limits).await), 408);
    let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(PayloadError::Incomplete(None))]);
    assert_eq!(status(read_stream(broken, SMALL).await), 408);
}

#[actix_web::test]
async fn small_calls_are_parsed() {
    #[derive(serde::Deserialize)]
    struct Call {
        n: u32,
    }
    async fn handler(
        request: HttpRequest,
        payload: Payload,
        gate: web::Data<IngestGate>,
    ) -> Result<HttpResponse, Problem> {
        let call: Call = read_json(&request, payload, &gate).await?;
        Ok(HttpResponse::Ok().body(call.n.to_string()))
    }
    let app = test::init_service(
        App::new().app_data(web::Data::new(IngestGate::default())).route("/", web::post().to(handler)),
    )
    .await;
    for (body, expected) in [(r#"{"n":7}"#, 200), (r#"{"n":"x"}"#, 400), ("", 400)] {
        let request = TestRequest::post().insert_header(json()).set_payload(body).to_request();
        assert_eq!(test::call_service(&app, request).await.status().as_u16(), expected, "{body}");
    }
}
