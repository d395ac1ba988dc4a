//! HTTP/1.1 messages as bytes: where one ends, and the little of it that a fault looks at.
//!
//! Never here: sockets but to read from, or what is done with a message.

use std::io::{self, Read as _};

use flate2::read::MultiGzDecoder;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longest message, and longest inflated body: a push is 16 MiB at most.
const MAX_MESSAGE: usize = 64 << 20;
/// Most headers of a message.
const MAX_HEADERS: usize = 128;
/// Longest name of a method; what does not begin like one is no HTTP.
const MAX_METHOD: usize = 16;
const READ: usize = 64 << 10;

/// A request, whole.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// As it came.
    pub(super) raw: Vec<u8>,
    pub(super) method: String,
    pub(super) path: String,
    /// Without chunks and compression.
    pub(super) body: Vec<u8>,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub(super) struct Response {
    /// As it came.
    pub(super) raw: Vec<u8>,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// Without chunks and compression.
    pub(super) body: Vec<u8>,
    /// The connection ends with it.
    pub(super) last: bool,
}

/// What came from a client.
#[derive(Debug)]
pub(super) enum Incoming {
    Request(Request),
    /// It has closed its connection, between two requests or within one.
    Ended,
    /// No HTTP/1.1; its bytes so far are in the reader.
    Other,
}

/// Bytes of one direction of a connection, cut into messages.
#[derive(Debug, Default)]
pub(super) struct Reader {
    bytes: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

struct Head {
    length: usize,
    framing: Framing,
    headers: Vec<(String, String)>,
}

/// Not HTTP/1.1, or too much of it.
struct Unreadable;

type Parsed<T> = Result<Option<T>, Unreadable>;

impl Reader {
    /// The next request.
    pub(super) async fn request(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Incoming> {
        loop {
            match parse_request(&self.bytes) {
                Ok(Some((length, mut request))) => {
                    request.raw = self.take(length);
                    return Ok(Incoming::Request(request));
                }
                Ok(None) => {}
                Err(Unreadable) => return Ok(Incoming::Other),
            }
            if self.more(stream).await? == 0 {
                return Ok(Incoming::Ended);
            }
        }
    }

    /// The answer to a request of this method.
    pub(super) async fn response(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        method: &str,
    ) -> io::Result<Response> {
        let mut ended = false;
        loop {
            match parse_response(&self.bytes, method, ended) {
                // "Go on with your body": it has been sent whole.
                Ok(Some((length, response))) if (100..200).contains(&response.status) => {
                    self.take(length);
                    continue;
                }
                Ok(Some((length, mut response))) => {
                    response.raw = self.take(length);
                    return Ok(response);
                }
                Ok(None) if ended => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(None) => {}
                Err(Unreadable) => return Err(io::ErrorKind::InvalidData.into()),
            }
            ended = self.more(stream).await? == 0;
        }
    }

    /// What was read and not used.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.bytes.split_off(length);
        std::mem::replace(&mut self.bytes, rest)
    }

    async fn more(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        if self.bytes.len() > MAX_MESSAGE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.bytes.reserve(READ);
        stream.read_buf(&mut self.bytes).await
    }
}

/// A request and its length; its raw bytes are the caller's to add.
fn parse_request(bytes: &[u8]) -> Parsed<(usize, Request)> {
    let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    if method.len() > MAX_METHOD || !method.iter().all(u8::is_ascii_uppercase) {
        return Err(Unreadable);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let Some(length) = complete(parsed.parse(bytes))? else { return Ok(None) };
    if parsed.version != Some(1) {
        return Err(Unreadable);
    }
    let (method, path) =
        (parsed.method.unwrap_or_default().to_owned(), parsed.path.unwrap_or_default().to_owned());
    let head = Head::of(length, parsed.headers, Framing::Length(0))?;
    let Some((end, body)) = head.body(bytes, false)? else { return Ok(None) };
    Ok(Some((end, Request { raw: Vec::new(), method, path, body })))
}

/// An answer and its length; its raw bytes are the caller's to add.
fn parse_response(bytes: &[u8], method: &str, ended: bool) -> Parsed<(usize, Response)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let Some(length) = complete(parsed.parse(bytes))? else { return Ok(None) };
    let status = parsed.code.unwrap_or_default();
    let mut head = Head::of(length, parsed.headers, Framing::UntilClose)?;
    if method == "HEAD" || matches!(status, 100..200 | 204 | 304) {
        head.framing = Framing::Length(0);
    }
    let Some((end, body)) = head.body(bytes, ended)? else { return Ok(None) };
    let last = head.framing == Framing::UntilClose
        || head.value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(Some((end, Response { raw: Vec::new(), status, headers: head.headers, body, last })))
}

fn complete(parsed: httparse::Result<usize>) -> Parsed<usize> {
    match parsed {
        Ok(httparse::Status::Complete(length)) => Ok(Some(length)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Unreadable),
    }
}

impl Head {
    fn of(length: usize, headers: &[httparse::Header<'_>], otherwise: Framing) -> Result<Self, Unreadable> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect();
        let mut head = Head { length, framing: otherwise, headers };
        if head.value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            head.framing = Framing::Chunked;
        } else if let Some(value) = head.value("content-length") {
            let length = value.parse().map_err(|_| Unreadable)?;
            if length > MAX_MESSAGE {
                return Err(Unreadable);
            }
            head.framing = Framing::Length(length);
        }
        Ok(head)
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Where the message ends, and its body; none: there is more to come.
    fn body(&self, bytes: &[u8], ended: bool) -> Parsed<(usize, Vec<u8>)> {
        let (end, body) = match self.framing {
            Framing::Length(length) => match bytes.get(self.length..self.length + length) {
                Some(body) => (self.length + length, body.to_vec()),
                None => return Ok(None),
            },
            Framing::Chunked => match chunks(&bytes[self.length..])? {
                Some((length, body)) => (self.length + length, body),
                None => return Ok(None),
            },
            Framing::UntilClose if ended => (bytes.len(), bytes[self.length..].to_vec()),
            Framing::UntilClose => return Ok(None),
        };
        let packed = self.value("content-encoding").is_some_and(|value| value.eq_ignore_ascii_case("gzip"));
        Ok(Some((end, if packed { inflated(body) } else { body })))
    }
}

/// Length of a body in chunks, trailers included, and the body without them.
fn chunks(bytes: &[u8]) -> Parsed<(usize, Vec<u8>)> {
    let (mut at, mut parts) = (0, Vec::new());
    loop {
        let (head, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Unreadable),
        };
        let size = usize::try_from(size).map_err(|_| Unreadable)?;
        if size == 0 {
            break;
        }
        if size > MAX_MESSAGE {
            return Err(Unreadable);
        }
        let start = at + head;
        // The line's end after the data counts.
        if bytes.len() < start + size + 2 {
            return Ok(None);
        }
        parts.push(start..start + size);
        at = start + size + 2;
    }
    // "0", trailers, and an empty line.
    let Some(end) = bytes[at..].windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let body = parts.into_iter().flat_map(|part| bytes[part].iter().copied()).collect();
    Ok(Some((at + end + 4, body)))
}

/// Inflated, or as it is where it is no gzip.
fn inflated(body: Vec<u8>) -> Vec<u8> {
    let mut plain = Vec::new();
    match MultiGzDecoder::new(&body[..]).take(MAX_MESSAGE as u64).read_to_end(&mut plain) {
        Ok(_) => plain,
        Err(_) => body,
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
