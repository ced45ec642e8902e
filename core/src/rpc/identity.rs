//! The metadata that identifies and signs every request.

use std::{
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use rocketmq_thin_proto::v2;
use sha1::Sha1;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::{
    error::{Error, ErrorKind},
    options::{ClientOptions, Credentials, Language},
};

/// One protocol client. Servers know its settings and whether it is connected by its id.
#[derive(Debug)]
pub(crate) struct Identity {
    client_id: String,
    namespace: String,
    /// The metadata that is the same in every request.
    fixed: MetadataMap,
    signer: Option<Signer>,
}

impl Identity {
    /// The version that servers see.
    pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// The host name, without characters that are not printable ASCII.
    pub(crate) fn host() -> String {
        let host = gethostname::gethostname();
        host.to_string_lossy().chars().filter(char::is_ascii_graphic).collect()
    }

    /// A new client id under the namespace, language and credentials of `options`.
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, Error> {
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
        if let Some(token) = options.credentials.as_ref().and_then(|it| it.session_token.as_deref()) {
            fixed.insert("x-mq-session-token", ascii("session token", token)?);
        }
        let signer = options.credentials.as_ref().map(Signer::new).transpose()?;
        Ok(Self { client_id, namespace: options.namespace.clone(), fixed, signer })
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The metadata of one request.
    pub(crate) fn metadata(&self, request_id: &str) -> MetadataMap {
        let mut metadata = self.fixed.clone();
        metadata.insert("x-mq-request-id", known_ascii(request_id));
        let now = SystemTime::now();
        match &self.signer {
            Some(signer) => {
                let (date, authorization) = signer.sign(now);
                metadata.insert("x-mq-date-time", date);
                metadata.insert("authorization", authorization);
            }
            None => {
                metadata.insert("x-mq-date-time", known_ascii(&date_time(now)));
            }
        }
        metadata
    }
}

/// Signs the date, which is all that servers verify. A signature is reused for a second.
#[derive(Debug)]
struct Signer {
    access_key: String,
    mac: Hmac<Sha1>,
    latest: Mutex<Option<Signed>>,
}

#[derive(Debug)]
struct Signed {
    second: u64,
    date: MetadataValue<Ascii>,
    authorization: MetadataValue<Ascii>,
}

impl Signer {
    fn new(credentials: &Credentials) -> Result<Self, Error> {
        ascii("access key", &credentials.access_key)?;
        let mac = Hmac::new_from_slice(credentials.secret_key.as_bytes())
            .map_err(|error| invalid("secret key", &error.to_string()))?;
        Ok(Self { access_key: credentials.access_key.clone(), mac, latest: Mutex::new(None) })
    }

    fn sign(&self, now: SystemTime) -> (MetadataValue<Ascii>, MetadataValue<Ascii>) {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut latest = self.latest.lock();
        match &*latest {
            Some(signed) if signed.second == second => (signed.date.clone(), signed.authorization.clone()),
            _ => {
                let date = date_time(now);
                let authorization = self.authorization(&date);
                let signed =
                    Signed { second, date: known_ascii(&date), authorization: known_ascii(&authorization) };
                let pair = (signed.date.clone(), signed.authorization.clone());
                *latest = Some(signed);
                pair
            }
        }
    }

    fn authorization(&self, date: &str) -> String {
        let mut mac = self.mac.clone();
        mac.update(date.as_bytes());
        let signature = hex::encode_upper(mac.finalize().into_bytes());
        format!(
            "MQv2-HMAC-SHA1 Credential={}, SignedHeaders=x-mq-date-time, Signature={signature}",
            self.access_key
        )
    }
}

/// The time as `20260102T030405Z`, in UTC.
fn date_time(now: SystemTime) -> String {
    humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "")
}

/// `host@pid@random`. Servers show it to people, and otherwise only compare it.
fn client_id() -> String {
    format!("{}@{}@{:016x}", Identity::host(), std::process::id(), rand::random::<u64>())
}

/// A language as servers know it.
pub(crate) struct WireLanguage {
    /// In the header `x-mq-language`.
    pub(crate) header: &'static str,
    /// In settings.
    pub(crate) settings: v2::Language,
}

impl From<Language> for WireLanguage {
    /// Servers refuse calls with a name they don't know in the header, and there they know no Kotlin, although
    /// settings can say it: Kotlin is Java in the header.
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

/// A value made here, or of parts that [`ascii`] accepted.
fn known_ascii(value: &str) -> MetadataValue<Ascii> {
    MetadataValue::from_str(value).expect("ids, dates and signatures are printable ASCII")
}

fn ascii(what: &str, value: &str) -> Result<MetadataValue<Ascii>, Error> {
    let printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let value = printable.then(|| MetadataValue::from_str(value).ok()).flatten();
    value.ok_or_else(|| invalid(what, "it must be printable ASCII"))
}

fn invalid(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidOptions, "connect", format!("the {what} can't be used: {why}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options() -> ClientOptions {
        ClientOptions {
            namespace: "prod".into(),
            credentials: Some(Credentials {
                access_key: "ak".into(),
                secret_key: "sk".into(),
                session_token: Some("token".into()),
            }),
            language: Language::NodeJs,
            ..ClientOptions::default()
        }
    }

    #[test]
    fn every_request_identifies_the_client() {
        let identity = Identity::new(&options()).unwrap();
        let metadata = identity.metadata("r-1");
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
        let metadata = Identity::new(&ClientOptions::default()).unwrap().metadata("r");
        assert!(metadata.get("authorization").is_none());
        assert!(metadata.get("x-mq-date-time").is_some());
        assert!(metadata.get("x-mq-namespace").is_none());
    }

    #[test]
    fn the_signature_is_hmac_sha1_of_the_date() {
        let signer = Signer::new(options().credentials.as_ref().unwrap()).unwrap();
        // printf 20260102T030405Z | openssl dgst -sha1 -hmac sk
        assert!(
            signer
                .authorization("20260102T030405Z")
                .ends_with("Signature=8253C64A492F7128D6DB0454D71F2E9CC618F627")
        );
    }

    #[test]
    fn the_date_is_utc_without_punctuation() {
        assert_eq!(date_time(UNIX_EPOCH + Duration::from_secs(1_767_323_045)), "20260102T030405Z");
    }

    #[test]
    fn ids_differ_and_bad_names_are_refused() {
        assert_ne!(client_id(), client_id());
        let error = Identity::new(&ClientOptions { namespace: "ü".into(), ..options() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    }
}
