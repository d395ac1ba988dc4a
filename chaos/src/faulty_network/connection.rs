//! One client's connection through a link: reads its requests, has them judged, and does what is decided.
//!
//! Never here: which requests are to suffer what.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::journal::EntryId;
use super::message::{Incoming, Reader, Request, Response};
use super::rules::{Answer, Fault, Held, Verdict};
use super::{Direction, Shared};

/// A piece of what is no HTTP.
const PIECE: usize = 64 << 10;

/// How a connection ends for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// As if the upstream had closed it.
    Closed,
    /// Broken: the client gets a reset.
    Broken,
}

/// What is next on a connection.
enum Next {
    Request,
    End(End),
}

/// A connection to the upstream, with what was read beyond an answer.
#[derive(Debug)]
struct Upstream {
    stream: TcpStream,
    reader: Reader,
}

/// A client and what is connected for it.
#[derive(Debug)]
pub(super) struct Connection {
    client: TcpStream,
    reader: Reader,
    upstream: Option<Upstream>,
    shared: Arc<Shared>,
    /// Counts it as open.
    _open: Arc<()>,
}

impl Connection {
    pub(super) fn new(client: TcpStream, shared: Arc<Shared>) -> Self {
        let open = shared.open.clone();
        Connection { client, reader: Reader::default(), upstream: None, shared, _open: open }
    }

    /// Until either side closes it or the wire is cut.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        let end = tokio::select! {
            biased;
            () = shared.cut() => End::Broken,
            // An upstream that is not there or breaks off breaks its client off.
            end = self.serve() => end.unwrap_or(End::Broken),
        };
        if end == End::Broken {
            let upstream = self.upstream.as_ref().map(|upstream| &upstream.stream);
            for stream in [Some(&self.client), upstream].into_iter().flatten() {
                // Of a connection that is gone already.
                let _ = stream.set_zero_linger();
            }
        }
    }

    async fn serve(&mut self) -> io::Result<End> {
        self.client.set_nodelay(true)?;
        loop {
            let request = tokio::select! {
                incoming = self.reader.request(&mut self.client) => match incoming? {
                    Incoming::Request(request) => request,
                    Incoming::Ended => return Ok(End::Closed),
                    Incoming::Other => return self.pass_bytes().await,
                },
                // The upstream ends a connection that is idle.
                () = ended(self.upstream.as_ref().map(|upstream| &upstream.stream)) => return Ok(End::Closed),
            };
            let entry = self.shared.journal.begin(&request);
            tokio::select! {
                () = self.shared.admit(Direction::There, request.raw.len()) => {}
                () = ended(Some(&self.client)) => return Ok(End::Closed),
            }
            if let Next::End(end) = self.judged(&request, entry).await? {
                return Ok(end);
            }
        }
    }

    /// Does with a request what the rules say.
    async fn judged(&mut self, request: &Request, entry: EntryId) -> io::Result<Next> {
        let fault = match self.shared.rules.judge(request, entry) {
            Verdict::Pass => return self.pass(request, entry).await,
            Verdict::Release(held) => {
                let Some(response) = self.ask(request, entry).await? else {
                    return Ok(Next::End(End::Closed));
                };
                deliver(&self.shared, &held).await;
                return self.answer_as_it_is(&response, entry).await;
            }
            Verdict::Hold => Fault::Reorder,
            Verdict::Fault(fault) => fault,
        };
        self.shared.journal.fault(entry, fault.name());
        self.fail(fault, request, entry).await
    }

    async fn fail(&mut self, fault: Fault, request: &Request, entry: EntryId) -> io::Result<Next> {
        match fault {
            Fault::Reorder | Fault::LoseRequest => return Ok(Next::End(End::Broken)),
            Fault::Silence => {
                ended(Some(&self.client)).await;
                return Ok(Next::End(End::Closed));
            }
            Fault::Answer(answer) => return self.answer(&answer, entry).await,
            Fault::Keep => {
                self.shared.keep(request);
                return self.pass(request, entry).await;
            }
            Fault::Slow(delay) => {
                tokio::select! {
                    () = tokio::time::sleep(delay) => return self.pass(request, entry).await,
                    () = ended(Some(&self.client)) => return Ok(Next::End(End::Closed)),
                }
            }
            Fault::LoseAnswer | Fault::HalfAnswer | Fault::Alter(_) | Fault::Duplicate => {}
        }
        let Some(response) = self.ask(request, entry).await? else { return Ok(Next::End(End::Closed)) };
        match fault {
            Fault::HalfAnswer => {
                self.write(&response.raw[..response.raw.len() / 2], None, entry).await?;
                // A reset would take back what the client has not read yet.
                Ok(Next::End(End::Closed))
            }
            Fault::Alter(alteration) => self.answer(&alteration.of(&response), entry).await,
            Fault::Duplicate => {
                deliver(&self.shared, &Held { request: request.clone(), entry }).await;
                self.answer_as_it_is(&response, entry).await
            }
            _ => Ok(Next::End(End::Broken)),
        }
    }

    async fn pass(&mut self, request: &Request, entry: EntryId) -> io::Result<Next> {
        match self.ask(request, entry).await? {
            Some(response) => self.answer_as_it_is(&response, entry).await,
            None => Ok(Next::End(End::Closed)),
        }
    }

    /// The upstream's answer; none: the client has gone meanwhile.
    async fn ask(&mut self, request: &Request, entry: EntryId) -> io::Result<Option<Response>> {
        let upstream = match &mut self.upstream {
            Some(upstream) => upstream,
            none => none.insert(Upstream::connect(&self.shared).await?),
        };
        tokio::select! {
            response = upstream.ask(&self.shared, request, entry) => response.map(Some),
            () = ended(Some(&self.client)) => Ok(None),
        }
    }

    async fn answer_as_it_is(&mut self, response: &Response, entry: EntryId) -> io::Result<Next> {
        self.write(&response.raw, Some(response.status), entry).await?;
        Ok(if response.last { Next::End(End::Closed) } else { Next::Request })
    }

    async fn answer(&mut self, answer: &Answer, entry: EntryId) -> io::Result<Next> {
        let status = (!answer.half).then_some(answer.status);
        self.write(&answer.bytes(), status, entry).await?;
        Ok(if answer.half { Next::End(End::Closed) } else { Next::Request })
    }

    /// Sends the client an answer, whole where its status is given.
    async fn write(&mut self, bytes: &[u8], status: Option<u16>, entry: EntryId) -> io::Result<()> {
        tokio::select! {
            () = self.shared.admit(Direction::Back, bytes.len()) => {}
            () = ended(Some(&self.client)) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        // Before it arrives: who has an answer finds it in the log.
        self.shared.journal.answered(entry, status, bytes.len());
        self.client.write_all(bytes).await
    }

    /// Everything both ways, as it comes, until both have closed.
    async fn pass_bytes(&mut self) -> io::Result<End> {
        let upstream = &mut self.upstream.insert(Upstream::connect(&self.shared).await?).stream;
        let first = self.reader.rest();
        let (client_read, client_write) = self.client.split();
        let (upstream_read, upstream_write) = upstream.split();
        tokio::try_join!(
            pump(client_read, upstream_write, first, &self.shared, Direction::There),
            pump(upstream_read, client_write, Vec::new(), &self.shared, Direction::Back),
        )?;
        Ok(End::Closed)
    }
}

impl Upstream {
    async fn connect(shared: &Shared) -> io::Result<Self> {
        Ok(Upstream { stream: shared.connect().await?, reader: Reader::default() })
    }

    async fn ask(&mut self, shared: &Shared, request: &Request, entry: EntryId) -> io::Result<Response> {
        // It may have changed while a connection was made.
        shared.carrying(Direction::There).await;
        self.stream.write_all(&request.raw).await?;
        shared.journal.delivered(entry, request.raw.len());
        let response = self.reader.response(&mut self.stream, &request.method).await?;
        shared.journal.upstream_answered(entry, response.status);
        Ok(response)
    }
}

/// Sends the upstream a request of which no client waits for the answer, on a connection of its own. An upstream that is not
/// there shows in the log as one delivery less.
async fn deliver(shared: &Shared, held: &Held) {
    if let Ok(mut upstream) = Upstream::connect(shared).await {
        let _ = upstream.ask(shared, &held.request, held.entry).await;
    }
}

/// Sends the upstream a request of long ago.
pub(super) async fn replay(shared: &Shared, request: &Request) {
    let entry = shared.journal.begin(request);
    shared.journal.fault(entry, "replay");
    deliver(shared, &Held { request: request.clone(), entry }).await;
}

/// Returns when the other side has ended a connection, never while it has sent something that nobody has read; and
/// never without a connection.
async fn ended(stream: Option<&TcpStream>) {
    if let Some(stream) = stream
        && matches!(stream.peek(&mut [0]).await, Ok(0) | Err(_))
    {
        return;
    }
    std::future::pending().await
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut piece: Vec<u8>,
    shared: &Shared,
    direction: Direction,
) -> io::Result<()> {
    loop {
        if piece.is_empty() {
            piece.reserve(PIECE);
            if from.read_buf(&mut piece).await? == 0 {
                return to.shutdown().await;
            }
        }
        shared.admit(direction, piece.len()).await;
        match direction {
            Direction::There => shared.journal.bytes(piece.len(), 0),
            Direction::Back => shared.journal.bytes(0, piece.len()),
        }
        to.write_all(&piece).await?;
        piece.clear();
    }
}
