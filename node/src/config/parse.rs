//! Parsers of single values: text in, typed value or the reason against it out.
//!
//! A reason never quotes the text, since it may be a secret. What never will be here: which key a
//! parser is for, or rules between keys.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use tracing_subscriber::EnvFilter;

use super::{LogFormat, secret::Secret};

/// Ten years: far above any sensible period, far below any overflow.
const MAX_MS: u64 = 10 * 366 * 24 * 3600 * 1000;

pub(super) fn within<T: FromStr + PartialOrd + Display>(text: &str, least: T, most: T) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(format!("must be a whole number from {least} to {most}")),
    }
}

pub(super) fn milliseconds(text: &str, least: u64) -> Result<Duration, String> {
    within(text, least, MAX_MS).map(Duration::from_millis)
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    // The one name that means the same everywhere; others would have to be resolved.
    let address = text.strip_prefix("localhost:").map_or(text.to_owned(), |port| format!("127.0.0.1:{port}"));
    address
        .parse()
        .map_err(|_| "must be an address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned())
}

pub(super) fn node_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 64 of A-Z a-z 0-9 . _ -".to_owned())
}

pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("must be a directory".to_owned());
    }
    Ok(PathBuf::from(text))
}

pub(super) fn secret_text(text: &str) -> Result<Secret, String> {
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(Secret::new(text))
}

pub(super) fn url(text: &str, schemes: &[&str]) -> Result<Secret, String> {
    if schemes.iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(Secret::new(text));
    }
    Err(format!("must begin with {}", schemes.join(" or ")))
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("must be greater than 0 and at most 1".to_owned()),
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

pub(super) fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map_err(|_| "is not a tracing filter, such as info,velox_node=debug".to_owned())?;
    Ok(text.to_owned())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be pretty or json".to_owned()),
    }
}

/// A list of exact origins, by commas or as JSON. `*` is refused: calls carry credentials.
pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    let list: Vec<String> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|_| "must be a list of texts".to_owned())?
    } else {
        text.split(',').map(|origin| origin.trim().to_owned()).filter(|origin| !origin.is_empty()).collect()
    };
    let sound = |origin: &String| {
        origin.split_once("://").is_some_and(|(scheme, host)| {
            let plain = |c: char| c.is_ascii_graphic() && !c.is_ascii_uppercase() && !"/*,?#@\\".contains(c);
            !scheme.is_empty() && !host.is_empty() && scheme.chars().chain(host.chars()).all(plain)
        })
    };
    if list.iter().all(sound) {
        return Ok(list);
    }
    Err("must be origins as browsers send them: lower case, scheme://host[:port], no path, no *".to_owned())
}
