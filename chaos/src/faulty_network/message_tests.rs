use super::*;
use std::io::Write as _;

async fn requests(bytes: &[u8]) -> Vec<Incoming> {
    let (mut reader, mut stream, mut found) = (Reader::default(), bytes, Vec::new());
    loop {
        let incoming = reader.request(&mut stream).await.expect("bytes");
        let goes_on = matches!(incoming, Incoming::Request(_));
        found.push(incoming);
        if !goes_on {
            return found;
        }
    }
}

async fn response(bytes: &[u8], method: &str) -> io::Result<Response> {
    let mut stream = bytes;
    Reader::default().response(&mut stream, method).await
}

#[tokio::test]
async fn requests_follow_each_other_whatever_their_framing() {
    let bytes = b"POST /a?b=1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}\
        GET /c HTTP/1.1\r\n\r\n\
        POST /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n";
    let found = requests(bytes).await;
    let [Incoming::Request(a), Incoming::Request(c), Incoming::Request(d), Incoming::Ended] = &found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!((a.method.as_str(), a.path.as_str(), &a.body[..]), ("POST", "/a?b=1", &b"{}"[..]));
    assert_eq!((c.path.as_str(), c.body.len()), ("/c", 0));
    assert_eq!((d.path.as_str(), &d.body[..]), ("/d", &b"abcde"[..]));
    assert_eq!([&a.raw[..], &c.raw, &d.raw].concat(), bytes);
}

#[tokio::test]
async fn a_request_in_single_bytes_is_one_request() {
    let bytes = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let (mut writer, mut stream) = tokio::io::duplex(1);
    let written = async {
        tokio::io::AsyncWriteExt::write_all(&mut writer, bytes).await.expect("a reader");
    };
    let mut reader = Reader::default();
    let (incoming, ()) = tokio::join!(reader.request(&mut stream), written);
    let incoming = incoming.expect("bytes");
    assert!(matches!(&incoming, Incoming::Request(request) if request.raw == bytes), "{incoming:?}");
}

#[tokio::test]
async fn a_packed_body_is_read_plain() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"SaleVoided").expect("a vector");
    let packed = packed.finish().expect("a vector");
    let mut bytes =
        format!("POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len())
            .into_bytes();
    bytes.extend_from_slice(&packed);
    let found = requests(&bytes).await;
    assert!(matches!(&found[0], Incoming::Request(request) if request.body == b"SaleVoided"), "{found:?}");
}

#[tokio::test]
async fn what_is_no_http_is_left_whole() {
    for bytes in [&b"*1\r\n$4\r\nPING\r\n"[..], &[0, 0, 0, 8, 4, 210, 22, 47], b"PRI * HTTP/2.0\r\n\r\n"] {
        let (mut reader, mut stream) = (Reader::default(), bytes);
        let incoming = reader.request(&mut stream).await.expect("bytes");
        assert!(matches!(incoming, Incoming::Other), "{incoming:?}");
        assert_eq!(reader.rest(), bytes);
    }
}

#[tokio::test]
async fn answers_end_where_they_say() {
    let whole = response(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "GET").await.expect("an answer");
    assert_eq!((whole.status, &whole.body[..], whole.last), (200, &b"{}"[..], false));
    let closed = response(b"HTTP/1.1 500 No\r\n\r\nbroken", "GET").await.expect("an answer");
    assert_eq!((closed.status, &closed.body[..], closed.last), (500, &b"broken"[..], true));
    let head = response(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD")
        .await
        .expect("an answer without a body");
    assert_eq!(head.body.len(), 0);
    let after =
        response(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Done\r\nConnection: close\r\n\r\n", "POST")
            .await;
    assert!(after.is_ok_and(|answer| answer.status == 204 && answer.last));
    for broken in ["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", "SSH-2.0-x\r\n", ""] {
        assert!(response(broken.as_bytes(), "GET").await.is_err(), "{broken}");
    }
}
