//! OpenTelemetry's own variables, as far as the node must decide by them.
//!
//! The exporter and the SDK read the rest of `OTEL_*` (headers, time-outs, batching, sampler) from
//! the process themselves. What never will be here: names of our own for what OpenTelemetry names.

use std::collections::HashMap;

/// Transport of the OTLP exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OtlpProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP with protobuf bodies.
    #[default]
    HttpProtobuf,
}

impl std::fmt::Display for OtlpProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        })
    }
}

/// What the environment says about the export of traces.
#[derive(Debug, Clone, Default)]
pub struct OtelConfig {
    /// Full URL that spans are sent to; `None`: no export.
    pub traces_endpoint: Option<String>,
    /// Transport.
    pub protocol: OtlpProtocol,
    /// Whether the transport was set, or is the default.
    pub protocol_set: bool,
    /// `OTEL_SERVICE_NAME`, where set.
    pub service_name: Option<String>,
    /// Whether `OTEL_RESOURCE_ATTRIBUTES` names the service, so that no default may go over it.
    pub service_named_by_attributes: bool,
}

impl OtelConfig {
    /// Reads the variables; what is wrong with them is a warning, as OpenTelemetry asks for.
    pub(super) fn read(variables: &HashMap<String, String>) -> (Self, Vec<String>) {
        let get = |name: &str| variables.get(name).filter(|text| !text.is_empty()).cloned();
        let mut warnings = Vec::new();
        let written =
            get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| get("OTEL_EXPORTER_OTLP_PROTOCOL"));
        let protocol = match written.as_deref() {
            Some("grpc") => OtlpProtocol::Grpc,
            None | Some("http/protobuf") => OtlpProtocol::HttpProtobuf,
            Some(_) => {
                warnings.push("OTEL_EXPORTER_OTLP_PROTOCOL is neither grpc nor http/protobuf".to_owned());
                OtlpProtocol::HttpProtobuf
            }
        };
        let base = || {
            let base = get("OTEL_EXPORTER_OTLP_ENDPOINT")?;
            Some(match protocol {
                OtlpProtocol::Grpc => base,
                OtlpProtocol::HttpProtobuf => format!("{}/v1/traces", base.trim_end_matches('/')),
            })
        };
        let off = get("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
            || get("OTEL_TRACES_EXPORTER").is_some_and(|text| text == "none");
        let config = Self {
            traces_endpoint: if off { None } else { get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(base) },
            protocol,
            protocol_set: written.is_some(),
            service_name: get("OTEL_SERVICE_NAME"),
            service_named_by_attributes: get("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|text| {
                text.split(',').any(|pair| pair.trim_start().starts_with("service.name="))
            }),
        };
        (config, warnings)
    }

    /// The endpoint as it may be shown: without user and password.
    pub(super) fn shown_endpoint(&self) -> Option<String> {
        let text = self.traces_endpoint.as_deref()?;
        let Ok(mut url) = reqwest::Url::parse(text) else {
            return Some("(not a URL)".to_owned());
        };
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Some("(not a URL)".to_owned());
        }
        url.set_query(None);
        Some(url.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (OtelConfig, Vec<String>) {
        let variables = pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        OtelConfig::read(&variables)
    }

    #[test]
    fn no_endpoint_is_no_export() {
        assert_eq!(read(&[]).0.traces_endpoint, None);
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).0.traces_endpoint, None);
        let off = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_SDK_DISABLED", "true")];
        assert_eq!(read(&off).0.traces_endpoint, None);
    }

    #[test]
    fn the_endpoint_follows_the_protocol() {
        let http = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/")]).0;
        assert_eq!(http.traces_endpoint.as_deref(), Some("http://c:4318/v1/traces"));
        let grpc = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ])
        .0;
        assert_eq!(
            (grpc.traces_endpoint.as_deref(), grpc.protocol),
            (Some("http://c:4317"), OtlpProtocol::Grpc)
        );
        let own = read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/spans")]).0;
        assert_eq!(own.traces_endpoint.as_deref(), Some("http://c/spans"));
    }

    #[test]
    fn oddities_warn_and_credentials_stay_hidden() {
        let (config, warnings) = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:hunter2@c:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=x"),
        ]);
        assert_eq!(warnings.len(), 1);
        assert!(config.service_named_by_attributes);
        assert_eq!(config.shown_endpoint().as_deref(), Some("http://c:4318/v1/traces"));
    }
}
