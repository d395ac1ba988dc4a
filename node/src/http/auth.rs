//! Who calls: a device by its token, a v1 till by its JWT, the admin by the key, a v1 node by the shared secret.
//!
//! The store of a call comes from the credential; a store named in a request can only agree with it.
//! The extractors touch no body, so a handler that takes one of them and a `Payload` reads nothing of
//! a stranger's. A fault of the database is a 503, never a 401: a till must not be logged out by it.
//! What never will be here: peers' signatures, and what a caller wants.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use velox_actors::peer::Peer;
use velox_protocol::time::Clock;
use velox_store::Store;

use super::{error::Problem, rate_limit::RateLimit};
use crate::config::Secret;

pub mod devices;
pub mod jwt;

pub use devices::Devices;
use jwt::JwtKey;
pub use jwt::Role;

/// Longest credential that is looked at; a v1 JWT has some 300 characters.
const MAX_CREDENTIAL: usize = 4096;

/// Longest id of a device, of those a request may name.
const MAX_DEVICE_ID: usize = 128;

/// What a device token begins with, so that it is recognised in a leak and told from a JWT.
const TOKEN_PREFIX: &str = "vxd_";

/// Routes where a JWT is taken for a while after its end: a till that v1 cannot reach must go on.
const GRACE_ROUTES: [&str; 3] = ["/sync", "/fiscal", "/inventory/escrow"];

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A device, by its own token.
    Device {
        /// Its store.
        store_id: Uuid,
        /// Itself.
        device_id: String,
    },
    /// A user at a v1 till: any device of the store.
    Jwt {
        /// The user's store.
        store_id: Uuid,
        /// The user.
        sub: String,
        /// What the user is in the store.
        role: Role,
    },
    /// Whoever has the admin key.
    Admin,
}

/// Whose request it is, nodes included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Somebody at a store, or the admin.
    Caller(Caller),
    /// A v1 node, by the secret that it shares with this one.
    Node(Arc<Peer>),
}

/// What the node authenticates by.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The admin key; `None`: nobody is admin.
    pub admin_key: Option<Secret>,
    /// v1's secret; `None`: every JWT is refused.
    pub jwt_secret: Option<Secret>,
    /// How long after its end a JWT is still taken on some routes.
    pub jwt_grace: Duration,
    /// Peers that come with their shared secret as bearer.
    pub v1_nodes: Vec<Arc<Peer>>,
}

/// Authentication of a node: one, given to every worker as `web::Data`.
pub struct Auth {
    /// Compared as digests, so that neither the time nor the length of the key shows.
    admin: Option<[u8; 32]>,
    jwt: Option<JwtKey>,
    jwt_grace: Duration,
    /// Digests of the secrets, as of the admin key; a node that rotates has two.
    v1_nodes: Vec<([u8; 32], Arc<Peer>)>,
    devices: Devices,
    limit: RateLimit,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Authentication against a store's devices.
    pub fn new(credentials: &Credentials, store: Store, limit: RateLimit, clock: Arc<dyn Clock>) -> Self {
        Self::with_devices(credentials, Devices::new(store, Arc::clone(&clock)), limit, clock)
    }

    fn with_devices(
        credentials: &Credentials,
        devices: Devices,
        limit: RateLimit,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            admin: credentials.admin_key.as_ref().map(|key| Sha256::digest(key.expose()).into()),
            jwt: credentials.jwt_secret.as_ref().map(JwtKey::new),
            jwt_grace: credentials.jwt_grace,
            v1_nodes: secrets(&credentials.v1_nodes),
            devices,
            limit,
            clock,
        }
    }

    /// The devices, for calls that add or revoke one and must be seen at once.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// Who sent this request. 401 unless the credential is good; 403 for a JWT of an unknown store and for a
    /// node; 429 for a device that calls too often.
    pub async fn caller(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        match self.known(request).await? {
            Known::Caller(caller) => Ok(caller),
            Known::Node(_) => Err(Problem::forbidden()),
        }
    }

    /// As [`Auth::caller`], for calls that a v1 node may make too.
    pub async fn known(&self, request: &HttpRequest) -> Result<Known, Problem> {
        let credential = bearer(request).ok_or_else(Problem::unauthorized)?;
        let digest: [u8; 32] = Sha256::digest(credential).into();
        let is_admin = self.admin.as_ref().is_some_and(|admin| bool::from(admin.ct_eq(&digest)));
        match self.v1_node(&digest) {
            // v1 calls its secret that of the admin, so somebody may have given this node the same one.
            Some(node) if !is_admin || is_v1_call(request.path()) => return Ok(Known::Node(node)),
            _ if is_admin => return Ok(Known::Caller(Caller::Admin)),
            _ => {}
        }
        let caller = if credential.starts_with(TOKEN_PREFIX) {
            self.device(credential).await
        } else {
            self.jwt(credential, request.path()).await
        };
        caller.map(Known::Caller)
    }

    /// All are compared, so that the time does not tell which one fits.
    fn v1_node(&self, digest: &[u8; 32]) -> Option<Arc<Peer>> {
        let found = self.v1_nodes.iter().fold(None, |found, (secret, node)| {
            if bool::from(secret.ct_eq(digest)) { Some(node) } else { found }
        });
        found.cloned()
    }

    async fn device(&self, token: &str) -> Result<Caller, Problem> {
        let found = self.devices.by_token(token_hash(token)).await?;
        let (store_id, device_id) = found.ok_or_else(Problem::unauthorized)?;
        self.limit.check(store_id, &device_id)?;
        Ok(Caller::Device { store_id, device_id })
    }

    async fn jwt(&self, token: &str, path: &str) -> Result<Caller, Problem> {
        let key = self.jwt.as_ref().ok_or_else(Problem::unauthorized)?;
        let grace = if has_grace(path) { self.jwt_grace } else { Duration::ZERO };
        let claims = key.verify(token, self.clock.now(), grace).ok_or_else(Problem::unauthorized)?;
        // The device is named in the body, which is not read yet; the user stands for it here.
        self.limit.check(claims.store_id, &claims.sub)?;
        if !self.devices.store_exists(claims.store_id).await? {
            return Err(Problem::forbidden());
        }
        Ok(Caller::Jwt { store_id: claims.store_id, sub: claims.sub, role: claims.role })
    }
}

/// Secrets by their digests.
fn secrets(nodes: &[Arc<Peer>]) -> Vec<([u8; 32], Arc<Peer>)> {
    let of = |node: &Arc<Peer>| -> Vec<([u8; 32], Arc<Peer>)> {
        node.keys.iter().map(|key| (Sha256::digest(key.expose()).into(), node.clone())).collect()
    };
    nodes.iter().flat_map(of).collect()
}

/// Whether the call means something else when a v1 node makes it than when the admin does.
fn is_v1_call(path: &str) -> bool {
    path == "/sync/push" || path.starts_with("/sync/federation/replay-")
}

/// Whether the path lies under one of [`GRACE_ROUTES`].
fn has_grace(path: &str) -> bool {
    GRACE_ROUTES
        .iter()
        .any(|route| path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The credential of `Authorization: Bearer`; two such headers are none.
fn bearer(request: &HttpRequest) -> Option<&str> {
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, credential) = value.split_once(' ')?;
    let credential = credential.trim();
    let sound = (1..=MAX_CREDENTIAL).contains(&credential.len()) && !credential.contains(' ');
    (scheme.eq_ignore_ascii_case("bearer") && sound).then_some(credential)
}

/// A new device token: 256 random bits. It is shown once; the store keeps [`token_hash`] of it.
pub fn new_device_token(random: &mut impl rand::CryptoRng) -> Secret {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    Secret::new(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What the store keeps of a device token. No salt or slow hash: the token is random already.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A caller of a store's data: device, v1 till or admin.
#[derive(Debug)]
pub struct StoreCaller {
    caller: Caller,
    auth: web::Data<Auth>,
}

impl StoreCaller {
    /// Who it is.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The store that the call is about. `named`: as body, query or path say it. 403 where that is
    /// another than the credential's; 400 where the admin names none.
    pub fn store(&self, named: Option<Uuid>) -> Result<Uuid, Problem> {
        let own = match &self.caller {
            Caller::Device { store_id, .. } | Caller::Jwt { store_id, .. } => *store_id,
            Caller::Admin => {
                return named
                    .ok_or_else(|| Problem::bad_request("STORE_REQUIRED", "The admin must name a store."));
            }
        };
        match named {
            Some(other) if other != own => Err(Problem::forbidden()),
            _ => Ok(own),
        }
    }

    /// Whether the caller may speak for this device: 403 for a token of another one, 400 for an id
    /// that none can have.
    pub fn check_device(&self, device_id: &str) -> Result<(), Problem> {
        if device_id.is_empty() || device_id.len() > MAX_DEVICE_ID || device_id.chars().any(char::is_control)
        {
            return Err(Problem::bad_request("INVALID_DEVICE", "The device id is none."));
        }
        match &self.caller {
            Caller::Device { device_id: own, .. } if own != device_id => Err(Problem::forbidden()),
            _ => Ok(()),
        }
    }

    /// As [`StoreCaller::check_device`]; a device that a v1 till names for the first time becomes
    /// known, since v1 registered it in its own database alone.
    pub async fn admit_device(&self, device_id: &str) -> Result<(), Problem> {
        self.check_device(device_id)?;
        match &self.caller {
            Caller::Jwt { store_id, .. } => self.auth.devices.register(*store_id, device_id).await,
            Caller::Device { .. } | Caller::Admin => Ok(()),
        }
    }
}

/// Whoever pushes events: a till, the admin in its place, or a v1 node.
#[derive(Debug)]
pub enum PushCaller {
    /// As for every call of a till.
    Till(StoreCaller),
    /// Events that it has taken from others.
    Node(Arc<Peer>),
}

/// A v1 node by its secret, or the admin: 403 for another good credential.
#[derive(Debug, Clone)]
pub enum NodeCaller {
    /// For every store.
    Admin,
    /// For its stores.
    Node(Arc<Peer>),
}

impl NodeCaller {
    /// 403 unless the store is served with the calling node.
    pub fn check_store(&self, store_id: Uuid) -> Result<(), Problem> {
        match self {
            Self::Node(node) if !node.serves(store_id) => Err(Problem::forbidden()),
            Self::Node(_) | Self::Admin => Ok(()),
        }
    }
}

/// The admin and nobody else: 403 for another good credential.
#[derive(Debug, Clone, Copy)]
pub struct AdminOnly;

type Extracted<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

impl FromRequest for StoreCaller {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let auth = auth_of(&request)?;
            let caller = auth.caller(&request).await?;
            Ok(Self { caller, auth })
        })
    }
}

impl FromRequest for PushCaller {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let auth = auth_of(&request)?;
            Ok(match auth.known(&request).await? {
                Known::Caller(caller) => Self::Till(StoreCaller { caller, auth }),
                Known::Node(node) => Self::Node(node),
            })
        })
    }
}

impl FromRequest for NodeCaller {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            match auth_of(&request)?.known(&request).await? {
                Known::Caller(Caller::Admin) => Ok(Self::Admin),
                Known::Node(node) => Ok(Self::Node(node)),
                Known::Caller(Caller::Device { .. } | Caller::Jwt { .. }) => Err(Problem::forbidden()),
            }
        })
    }
}

impl FromRequest for AdminOnly {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            match auth_of(&request)?.caller(&request).await? {
                Caller::Admin => Ok(Self),
                Caller::Device { .. } | Caller::Jwt { .. } => Err(Problem::forbidden()),
            }
        })
    }
}

fn auth_of(request: &HttpRequest) -> Result<web::Data<Auth>, Problem> {
    #[derive(Debug, thiserror::Error)]
    #[error("the application has no Auth")]
    struct Missing;
    request.app_data::<web::Data<Auth>>().cloned().ok_or_else(|| Problem::internal(&Missing))
}

#[cfg(test)]
mod tests;
