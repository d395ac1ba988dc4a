//! The list of peers as configured: who they are, where, and the keys shared with them.
//!
//! Validated when it is read, so that a wrong list is found when it is
//! written. What never will be here: a connection to a peer, or its state.

use std::collections::HashSet;

use reqwest::Url;
use serde::Deserialize;
use uuid::Uuid;

use super::secret::Secret;

/// Most peers of one node: each has a relay of its own.
const MAX_PEERS: usize = 64;
/// Two keys are valid while one is rotated, never more.
const MAX_KEYS: usize = 2;
/// Longest name, since names become labels of metrics and names of actors.
const MAX_NAME: usize = 64;

/// How a peer is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerProtocol {
    /// Signed requests.
    #[default]
    Velox,
    /// The deployed wire, with the shared secret as bearer.
    V1,
}

impl std::fmt::Display for PeerProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Velox => "velox",
            Self::V1 => "v1",
        })
    }
}

/// One configured peer.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Name, unique among the peers: `[A-Za-z0-9._-]{1,64}`.
    pub name: String,
    /// Base URL, `http` or `https`, without a query.
    pub url: String,
    /// Shared keys, one, or two while rotating; the first signs.
    pub keys: Vec<Secret>,
    /// Stores served with this peer; `None`: all.
    pub stores: Option<Vec<Uuid>>,
    /// How it is spoken to.
    pub protocol: PeerProtocol,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    url: String,
    key: Option<String>,
    keys: Option<Vec<String>>,
    stores: Option<Vec<Uuid>>,
    #[serde(default)]
    protocol: PeerProtocol,
}

/// Parses and checks the list. No reason ever quotes the input, which holds keys.
pub(super) fn parse(text: &str) -> Result<Vec<PeerConfig>, String> {
    let written: Vec<Written> = serde_json::from_str(text).map_err(|error| {
        format!(
            "is not a list of {{name, url, key | keys, stores?, protocol?: velox | v1}} (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    if written.len() > MAX_PEERS {
        return Err(format!("names more than {MAX_PEERS} peers"));
    }
    let mut names = HashSet::new();
    let mut keys_seen = HashSet::new();
    let mut peers = Vec::with_capacity(written.len());
    for (index, peer) in written.into_iter().enumerate() {
        let place = format!("peer {}", index + 1);
        let peer = check(peer).map_err(|reason| format!("{place}: {reason}"))?;
        if !names.insert(peer.name.clone()) {
            return Err(format!("{place}: the name {} is taken by another peer", peer.name));
        }
        for key in &peer.keys {
            // A peer's identity is its key, so two with one key could not be told apart.
            if !keys_seen.insert(key.expose().to_owned()) {
                return Err(format!("{place}: its key is also listed elsewhere"));
            }
        }
        peers.push(peer);
    }
    Ok(peers)
}

fn check(peer: Written) -> Result<PeerConfig, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if peer.name.is_empty() || peer.name.len() > MAX_NAME || !peer.name.chars().all(plain) {
        return Err(format!("the name must be 1 to {MAX_NAME} of A-Z a-z 0-9 . _ -"));
    }
    let url = Url::parse(&peer.url).map_err(|_| "the url is none".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("the url must be http or https".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the url must not carry a user or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the url must not carry a query or fragment".to_owned());
    }
    let keys = match (peer.key, peer.keys) {
        (Some(key), None) => vec![key],
        (None, Some(keys)) if (1..=MAX_KEYS).contains(&keys.len()) => keys,
        _ => return Err("wants key, or keys with one or two of them".to_owned()),
    };
    if keys.iter().any(|key| key.trim().is_empty()) {
        return Err("a key is empty".to_owned());
    }
    Ok(PeerConfig {
        name: peer.name,
        url: peer.url.trim_end_matches('/').to_owned(),
        keys: keys.into_iter().map(Secret::new).collect(),
        stores: peer.stores,
        protocol: peer.protocol,
    })
}

/// One line for people: who and where, never a key.
pub(super) fn summary(peers: &[PeerConfig]) -> String {
    let line = |peer: &PeerConfig| {
        let stores =
            peer.stores.as_ref().map_or("all stores".to_owned(), |list| format!("{} stores", list.len()));
        format!("{} ({}, {}, {stores}, {} key(s))", peer.name, peer.url, peer.protocol, peer.keys.len())
    };
    peers.iter().map(line).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_is_read() {
        let text = r#"[
            {"name":"shop","url":"https://shop.example/","key":"k-one"},
            {"name":"old","url":"http://10.0.0.2:3000","keys":["k-two","k-three"],
             "stores":["00000000-0000-4000-8000-000000000001"],"protocol":"v1"}]"#;
        let peers = parse(text).unwrap();
        assert_eq!(peers[0].url, "https://shop.example");
        assert_eq!((peers[0].protocol, peers[1].protocol), (PeerProtocol::Velox, PeerProtocol::V1));
        assert_eq!(peers[1].keys.len(), 2);
        let shown = summary(&peers);
        assert!(shown.contains("shop (https://shop.example, velox, all stores"), "{shown}");
        assert!(!shown.contains("k-one") && !format!("{peers:?}").contains("k-two"));
    }

    #[test]
    fn one_key_for_two_peers_is_refused() {
        let text = r#"[{"name":"a","url":"http://a","key":"same"},{"name":"b","url":"http://b","keys":["x","same"]}]"#;
        let reason = parse(text).unwrap_err();
        assert!(reason.contains("peer 2") && !reason.contains("same"), "{reason}");
    }

    #[test]
    fn faults_are_refused_and_not_quoted() {
        for text in [
            "hunter2",
            r#"{"name":"a"}"#,
            r#"[{"name":"a","url":"http://a","key":{"hunter2":1}}]"#,
            r#"[{"name":"a","url":"http://a"}]"#,
            r#"[{"name":"a","url":"http://a","key":""}]"#,
            r#"[{"name":"a","url":"http://a","key":"hunter2","keys":["hunter3"]}]"#,
            r#"[{"name":"a","url":"http://a","keys":["1","2","3"]}]"#,
            r#"[{"name":"a","url":"http://u:hunter2@a","key":"k"}]"#,
            r#"[{"name":"a","url":"ftp://hunter2","key":"k"}]"#,
            r#"[{"name":"a b","url":"http://a","key":"hunter2"}]"#,
            r#"[{"name":"a","url":"http://a","key":"hunter2","protocol":"v2"}]"#,
            r#"[{"name":"a","url":"http://a","key":"1"},{"name":"a","url":"http://b","key":"2"}]"#,
            r#"[{"name":"a","url":"http://a","key":"hunter2","extra":1}]"#,
        ] {
            let reason = parse(text).expect_err(text);
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }
}
