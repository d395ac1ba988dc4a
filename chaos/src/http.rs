//! A keep-alive HTTP/1.1 client that costs next to nothing: it shares two cores with what it measures.
//!
//! One connection, one request at a time, whole requests written at once. Never here: TLS, redirects,
//! chunked answers, retries.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest head of an answer.
const MAX_HEAD: usize = 16 << 10;
/// Longest body of an answer: two thousand accepted events are 200 kB.
const MAX_BODY: usize = 4 << 20;

/// A connection to one node.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// The last answer; its room is used again.
    answer: Vec<u8>,
}

/// An answer, until the next request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.body).into_owned()
    }
}

/// A whole request, ready to be written.
pub(crate) fn request(method: &str, path: &str, token: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: velox\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut request = Vec::with_capacity(head.len() + body.len());
    request.extend_from_slice(head.as_bytes());
    request.extend_from_slice(body.as_bytes());
    request
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, answer: Vec::with_capacity(16 << 10) })
    }

    /// Writes a request and reads its answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let head = loop {
            if let Some(end) = find(&self.answer, b"\r\n\r\n") {
                break Head::read(&self.answer[..end], end + 4)?;
            }
            ensure!(self.answer.len() <= MAX_HEAD, "the answer's head has no end");
            self.more().await?;
        };
        let end = head.body_at + head.length;
        while self.answer.len() < end {
            self.more().await?;
        }
        ensure!(self.answer.len() == end, "bytes after the answer");
        Ok(Answer { status: head.status, body: &self.answer[head.body_at..] })
    }

    async fn more(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.answer).await?;
        ensure!(read > 0, "the node closed the connection");
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    length: usize,
    body_at: usize,
}

impl Head {
    fn read(head: &[u8], body_at: usize) -> Result<Self> {
        let head = std::str::from_utf8(head)?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let Some(status) = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok())
        else {
            bail!("no HTTP/1.1: {status}");
        };
        let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let length: usize = length.context("the answer has no content-length")?;
        ensure!(length <= MAX_BODY, "an answer of {length} bytes");
        Ok(Head { status, length, body_at })
    }
}

/// Where `needle` starts.
pub(crate) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let head = Head::read(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 12", 50).expect("a head");
        assert_eq!(head, Head { status: 200, length: 12, body_at: 50 });
        for broken in ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "SSH-2.0\r\ncontent-length: 1", ""] {
            assert!(Head::read(broken.as_bytes(), 0).is_err(), "{broken}");
        }
    }

    #[tokio::test]
    async fn an_answer_in_pieces_and_a_second_request() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = async {
            let (mut peer, _) = listener.accept().await.expect("a client");
            let mut read = vec![0; 1024];
            for body in ["hello", ""] {
                let n = peer.read(&mut read).await.expect("a request");
                assert!(read[..n].ends_with(b"content-length: 2\r\n\r\n{}"));
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                for piece in answer.as_bytes().chunks(7) {
                    peer.write_all(piece).await.expect("written");
                    peer.flush().await.expect("sent");
                    tokio::task::yield_now().await;
                }
            }
        };
        let client = async {
            let mut connection = Connection::open(address).await.expect("connected");
            let request = request("POST", "/x", "t", "{}");
            for body in ["hello", ""] {
                let answer = connection.send(&request).await.expect("an answer");
                assert_eq!((answer.status, answer.text().as_str()), (200, body));
            }
            assert!(connection.send(&request).await.is_err(), "closed");
        };
        tokio::join!(server, client);
    }
}
