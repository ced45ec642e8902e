//! The `[otlp]` section of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

/// The shortest time between two exports of metrics.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The export of metrics and traces to a collector of OpenTelemetry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// The collector's address for gRPC, such as `http://127.0.0.1:4317`, or `https://…` for TLS. Without it, nothing is
    /// exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// A file of certificates in PEM: only these and those that they have signed are trusted as the collector's. By default,
    /// those that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Whether metrics are exported [default: true].
    pub metrics: bool,
    /// The time between two exports of metrics [default: 1m].
    #[serde(with = "crate::duration")]
    pub metrics_interval: Duration,
    /// Whether traces are exported [default: true].
    pub traces: bool,
    /// The share of requests that begin a trace, from 0 to 1 [default: 0]. Requests with messages whose senders have sampled
    /// them are always part of that trace.
    pub sample: f64,
    /// Headers of each export, such as an API key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Attributes of this proxy, such as `deployment.environment.name`. By default `service.name` is `rocketmq-thin-proxy`, and
    /// `service.instance.id` is a new one at each start.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// Why the configuration of the export is invalid.
#[derive(Debug, Error)]
pub enum OtlpError {
    /// The collector's address.
    #[error("the collector's address can't be used: {0}; write http://HOST:4317")]
    Endpoint(String),
    /// The file of trusted certificates is set without TLS.
    #[error("the file of trusted certificates has no effect without https:// in the collector's address")]
    CaWithoutTls,
    /// The file of trusted certificates can't be used.
    #[error("the trusted certificates of the collector in {}: {reason}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A header with this name.
    #[error("the header {0:?} of the export is invalid")]
    Header(String),
    /// The share of requests is not between 0 and 1.
    #[error("the share {0} of requests is not between 0 and 1")]
    Sample(f64),
    /// The interval is too short.
    #[error("the interval {0:?} between exports of metrics is shorter than 1s")]
    Interval(Duration),
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            ca_file: None,
            metrics: true,
            metrics_interval: Duration::from_secs(60),
            traces: true,
            sample: 0.0,
            headers: BTreeMap::new(),
            attributes: BTreeMap::new(),
        }
    }
}

impl OtlpConfig {
    /// Whether metrics are exported.
    #[must_use]
    pub fn exports_metrics(&self) -> bool {
        self.endpoint.is_some() && self.metrics
    }

    /// Whether traces are exported.
    #[must_use]
    pub fn exports_traces(&self) -> bool {
        self.endpoint.is_some() && self.traces
    }

    /// Checks the constraints that the types do not express.
    ///
    /// # Errors
    /// [`OtlpError`].
    pub fn check(&self) -> Result<(), OtlpError> {
        let endpoint = self.endpoint()?;
        if self.ca_file.is_some() && endpoint.is_some_and(|endpoint| !uses_tls(&endpoint)) {
            return Err(OtlpError::CaWithoutTls);
        }
        self.header_map()?;
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(OtlpError::Sample(self.sample));
        }
        match self.metrics_interval < MIN_INTERVAL {
            true => Err(OtlpError::Interval(self.metrics_interval)),
            false => Ok(()),
        }
    }

    /// Checks the file that the settings name.
    ///
    /// # Errors
    /// `Ca`.
    pub fn check_files(&self) -> Result<(), OtlpError> {
        self.trusted().map(drop)
    }

    /// The configured certificates; `None` if those that the system trusts are used.
    fn trusted(&self) -> Result<Option<Certificate>, OtlpError> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let invalid = |reason: String| OtlpError::Ca { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|error| invalid(error.to_string()))?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match certificates.map_err(|error| invalid(error.to_string()))?.is_empty() {
            true => Err(invalid("no certificate in PEM".to_owned())),
            false => Ok(Some(Certificate::from_pem(pem))),
        }
    }

    /// The headers of each export.
    pub(super) fn header_map(&self) -> Result<HeaderMap, OtlpError> {
        let header = |(name, value): (&String, &String)| {
            let invalid = || OtlpError::Header(name.clone());
            let mut value = HeaderValue::try_from(value).map_err(|_| invalid())?;
            // Often a key.
            value.set_sensitive(true);
            Ok((HeaderName::try_from(name).map_err(|_| invalid())?, value))
        };
        self.headers.iter().map(header).collect()
    }

    /// The collector, with TLS if its address demands that; `None` if there is none.
    pub(super) fn collector(&self) -> Result<Option<Endpoint>, OtlpError> {
        let Some(endpoint) = self.endpoint()? else { return Ok(None) };
        if !uses_tls(&endpoint) {
            return Ok(Some(endpoint));
        }
        let tls = match self.trusted()? {
            Some(trusted) => ClientTlsConfig::new().ca_certificate(trusted),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        endpoint.tls_config(tls).map(Some).map_err(|error| OtlpError::Endpoint(error.to_string()))
    }

    /// The collector's address.
    fn endpoint(&self) -> Result<Option<Endpoint>, OtlpError> {
        let Some(text) = &self.endpoint else { return Ok(None) };
        let endpoint = Endpoint::from_shared(text.clone());
        let endpoint = endpoint.map_err(|_| OtlpError::Endpoint(format!("{text:?} is not a URL")))?;
        match (endpoint.uri().scheme_str(), endpoint.uri().host()) {
            (Some("http" | "https"), Some(_)) => Ok(Some(endpoint)),
            _ => Err(OtlpError::Endpoint(format!("{text:?} is not an http:// or https:// URL"))),
        }
    }
}

fn uses_tls(endpoint: &Endpoint) -> bool {
    endpoint.uri().scheme_str() == Some("https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_explained() {
        let with =
            |endpoint: &str| OtlpConfig { endpoint: Some(endpoint.to_owned()), ..OtlpConfig::default() };
        assert!(OtlpConfig::default().check().is_ok() && with("http://127.0.0.1:4317").check().is_ok());
        for endpoint in ["localhost:4317", "127.0.0.1:4317", "grpc://a:1", "http://", "http://a b"] {
            let error = with(endpoint).check().expect_err(endpoint).to_string();
            assert!(error.contains("http://HOST:4317"), "{error}");
        }
        let wrong = OtlpConfig { sample: f64::NAN, ..OtlpConfig::default() };
        assert!(matches!(wrong.check(), Err(OtlpError::Sample(_))));
        let wrong = OtlpConfig { metrics_interval: Duration::ZERO, ..OtlpConfig::default() };
        assert!(matches!(wrong.check(), Err(OtlpError::Interval(_))));
        let headers = BTreeMap::from([("api key".to_owned(), "k".to_owned())]);
        assert!(matches!(OtlpConfig { headers, ..OtlpConfig::default() }.check(), Err(OtlpError::Header(_))));
        let ca_file = Some(PathBuf::from("Cargo.toml"));
        let plain = OtlpConfig { ca_file: ca_file.clone(), ..with("http://a:4317") };
        assert!(matches!(plain.check(), Err(OtlpError::CaWithoutTls)));
        let wrong = OtlpConfig { ca_file, ..with("https://a:4317") };
        assert!(wrong.check().is_ok() && matches!(wrong.check_files(), Err(OtlpError::Ca { .. })));
    }
}
