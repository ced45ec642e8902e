//! The metadata that identifies and signs every request.

use std::{sync::Arc, time::SystemTime};

use rocketmq_thin_proto::v2;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::{
    credentials::{CurrentCredentials, Version},
    metadata_values::{ascii, date_time, known_ascii},
};
use crate::{
    error::Error,
    options::{ClientOptions, Language},
};

/// The client id of a producer, a consumer or the route cache, and the metadata of its requests. Servers store settings
/// and connections by client id.
#[derive(Debug)]
pub(crate) struct Identity {
    client_id: String,
    namespace: String,
    /// The metadata that is the same in every request.
    fixed: MetadataMap,
    credentials: Arc<CurrentCredentials>,
}

impl Identity {
    /// The version of this client, as reported to servers.
    pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// The host name of this machine, reduced to printable ASCII.
    pub(crate) fn host() -> String {
        let host = gethostname::gethostname();
        host.to_string_lossy().chars().filter(char::is_ascii_graphic).collect()
    }

    /// Creates an identity with a new client id, and the namespace and language of `options`.
    pub(crate) fn new(options: &ClientOptions, credentials: Arc<CurrentCredentials>) -> Result<Self, Error> {
        let client_id = client_id();
        let mut fixed = MetadataMap::new();
        fixed.insert("x-mq-client-id", ascii("host name", &client_id)?);
        fixed
            .insert("x-mq-language", MetadataValue::from_static(WireLanguage::from(options.language).header));
        fixed.insert("x-mq-client-version", MetadataValue::from_static(Self::VERSION));
        fixed.insert("x-mq-protocol", MetadataValue::from_static("v2"));
        if !options.namespace.is_empty() {
            fixed.insert("x-mq-namespace", ascii("namespace", &options.namespace)?);
        }
        Ok(Self { client_id, namespace: options.namespace.clone(), fixed, credentials })
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The credentials of the client, which all its producers and consumers share.
    pub(super) fn credentials(&self) -> &CurrentCredentials {
        &self.credentials
    }

    /// The metadata of one request, and the version of the credentials that sign it.
    pub(crate) fn metadata(&self, request_id: &str) -> (MetadataMap, Version) {
        let mut metadata = self.fixed.clone();
        metadata.insert("x-mq-request-id", known_ascii(request_id));
        let now = SystemTime::now();
        let (signer, version) = self.credentials.current();
        match signer {
            Some(signer) => signer.sign(&mut metadata, now),
            None => {
                metadata.insert("x-mq-date-time", known_ascii(&date_time(now)));
            }
        }
        (metadata, version)
    }
}

/// A new client id, `host@pid@random`. Servers show it to administrators, and otherwise only compare it.
fn client_id() -> String {
    format!("{}@{}@{:016x}", Identity::host(), std::process::id(), rand::random::<u64>())
}

/// The names of a language in the protocol.
pub(crate) struct WireLanguage {
    /// In the header `x-mq-language`.
    pub(crate) header: &'static str,
    /// In settings.
    pub(crate) settings: v2::Language,
}

impl From<Language> for WireLanguage {
    /// Servers refuse requests with an unknown language in the header. They don't accept Kotlin there, only in settings,
    /// so the header says Java.
    fn from(language: Language) -> Self {
        let (header, settings) = match language {
            Language::Rust => ("RUST", v2::Language::Rust),
            Language::Python => ("PYTHON", v2::Language::Python),
            Language::NodeJs => ("NODE_JS", v2::Language::NodeJs),
            Language::Kotlin => ("JAVA", v2::Language::Kotlin),
        };
        Self { header, settings }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{error::ErrorKind, options::Credentials};

    fn identity(options: &ClientOptions) -> Result<Identity, Error> {
        Identity::new(options, CurrentCredentials::new(options)?)
    }

    fn options() -> ClientOptions {
        ClientOptions::default()
            .namespace("prod")
            .credentials(Credentials::new("ak", "sk").session_token("token"))
            .language(Language::NodeJs)
    }

    #[test]
    fn every_request_identifies_the_client() {
        let identity = identity(&options()).unwrap();
        let (metadata, _) = identity.metadata("r-1");
        let get = |name: &str| metadata.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(get("x-mq-client-id"), identity.client_id());
        assert_eq!(get("x-mq-language"), "NODE_JS");
        assert_eq!(get("x-mq-client-version"), Identity::VERSION);
        assert_eq!(get("x-mq-protocol"), "v2");
        assert_eq!(get("x-mq-namespace"), "prod");
        assert_eq!(get("x-mq-session-token"), "token");
        assert_eq!(get("x-mq-request-id"), "r-1");
        assert!(
            get("authorization").starts_with("MQv2-HMAC-SHA1 Credential=ak, SignedHeaders=x-mq-date-time")
        );
    }

    #[test]
    fn without_credentials_nothing_is_signed() {
        let (metadata, _) = identity(&ClientOptions::default()).unwrap().metadata("r");
        assert!(metadata.get("authorization").is_none());
        assert!(metadata.get("x-mq-date-time").is_some());
        assert!(metadata.get("x-mq-namespace").is_none());
    }

    #[test]
    fn the_date_is_utc_without_punctuation() {
        assert_eq!(date_time(UNIX_EPOCH + Duration::from_secs(1_767_323_045)), "20260102T030405Z");
    }

    #[test]
    fn ids_differ_and_bad_names_are_refused() {
        assert_ne!(client_id(), client_id());
        let error = identity(&options().namespace("ü")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    }
}
