//! A native peer's request: whose it is, and that nobody has made, changed or repeated it.
//!
//! Never here: what the peer wants.

use crate::app::AppState;
use crate::http::body::{IngestPermit, SignedBody, read_signed};
use crate::http::error::Problem;
use actix_web::HttpRequest;
use actix_web::web::{Bytes, Payload};
use std::sync::Arc;
use uuid::Uuid;
use velox_actors::peer::Peer;
use velox_protocol::signature::{KEY_HEADER, MAX_NONCE, NONCE_HEADER, SIGNATURE_HEADER, Signed, TIME_HEADER};

/// A request that a peer has signed.
pub struct FromPeer {
    /// Whose it is, by its key.
    pub peer: Arc<Peer>,
    /// Inflated.
    pub body: Bytes,
    /// Its share of the node's memory.
    pub permit: IngestPermit,
}

impl FromPeer {
    /// 403 unless the store is served with this peer.
    pub fn check_store(&self, store_id: Uuid) -> Result<(), Problem> {
        if self.peer.serves(store_id) { Ok(()) } else { Err(Problem::forbidden()) }
    }
}

/// Reads a request of a native peer. 401 with `PEER_UNKNOWN`, `PEER_CLOCK`, `PEER_SIGNATURE` or `PEER_REPEATED`; the
/// problems of a body. A stranger's body is not read.
pub async fn read(
    state: &AppState,
    request: &HttpRequest,
    payload: Payload,
    media_type: &str,
) -> Result<FromPeer, Problem> {
    let unknown = || Problem::unsigned("PEER_UNKNOWN", "The request is not signed by a known peer.");
    let header = |name| single(request, name).ok_or_else(unknown);
    let (id, nonce, signature) = (header(KEY_HEADER)?, header(NONCE_HEADER)?, header(SIGNATURE_HEADER)?);
    let time: i64 = header(TIME_HEADER)?.parse().map_err(|_| unknown())?;
    let (peer, key) = state.federation.by_key(id).ok_or_else(unknown)?;
    let mut signed = Signed {
        method: request.method().as_str(),
        path_and_query: request.uri().path_and_query().map_or("", |text| text.as_str()),
        body_sha256: &[0; 32],
        time,
        nonce,
        key_id: id,
    };
    if !signed.is_fresh(state.clock.now()) {
        return Err(Problem::unsigned("PEER_CLOCK", "The clocks of the two nodes are too far apart."));
    }
    if nonce.is_empty() || nonce.len() > MAX_NONCE {
        return Err(Problem::unsigned("PEER_SIGNATURE", "The nonce is none."));
    }
    let SignedBody { bytes, permit, sha256 } = read_signed(request, payload, &state.gate, media_type).await?;
    signed.body_sha256 = &sha256;
    if !signed.is_signed_by(key.expose(), signature) {
        return Err(Problem::unsigned("PEER_SIGNATURE", "The signature does not fit the request."));
    }
    if !state.store.take_nonce(id, nonce).await? {
        return Err(Problem::unsigned("PEER_REPEATED", "The request was made before."));
    }
    Ok(FromPeer { peer: peer.clone(), body: bytes, permit })
}

/// The text of a header that stands there once.
fn single<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    let mut values = request.headers().get_all(name);
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}
