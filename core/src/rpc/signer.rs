//! Signs requests with the access key and its secret.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha1::Sha1;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use super::metadata_values::{ascii, date_time, invalid, known_ascii};
use crate::{error::Error, options::Credentials};

/// Signs the date of a request, because servers verify nothing else. A signature is reused for one second.
pub(super) struct Signer {
    access_key: String,
    mac: Hmac<Sha1>,
    token: Option<MetadataValue<Ascii>>,
    latest: Mutex<Option<Signed>>,
}

struct Signed {
    second: u64,
    date: MetadataValue<Ascii>,
    authorization: MetadataValue<Ascii>,
}

impl Signer {
    pub(super) fn new(credentials: &Credentials) -> Result<Self, Error> {
        ascii("access key", &credentials.access_key)?;
        let mac = Hmac::new_from_slice(credentials.secret_key.as_bytes())
            .map_err(|error| invalid("secret key", &error.to_string()))?;
        let token =
            credentials.session_token.as_deref().map(|token| ascii("session token", token)).transpose()?;
        let access_key = credentials.access_key.clone();
        Ok(Self { access_key, mac, token: token.map(secret), latest: Mutex::new(None) })
    }

    /// Adds the date, its signature, and the session token.
    pub(super) fn sign(&self, metadata: &mut MetadataMap, now: SystemTime) {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut latest = self.latest.lock();
        let signed = match latest.take() {
            Some(signed) if signed.second == second => latest.insert(signed),
            _ => {
                let date = date_time(now);
                let authorization = secret(known_ascii(&self.authorization(&date)));
                latest.insert(Signed { second, date: known_ascii(&date), authorization })
            }
        };
        metadata.insert("x-mq-date-time", signed.date.clone());
        metadata.insert("authorization", signed.authorization.clone());
        if let Some(token) = &self.token {
            metadata.insert("x-mq-session-token", token.clone());
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

/// Marks a value as sensitive, so that `Debug` output and HTTP/2's header compression leave it out.
fn secret(mut value: MetadataValue<Ascii>) -> MetadataValue<Ascii> {
    value.set_sensitive(true);
    value
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha1_of_the_date() {
        let signer = Signer::new(&Credentials::new("ak", "sk")).unwrap();
        // printf 20260102T030405Z | openssl dgst -sha1 -hmac sk
        assert!(
            signer
                .authorization("20260102T030405Z")
                .ends_with("Signature=8253C64A492F7128D6DB0454D71F2E9CC618F627")
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials::new("ak", "hush-key").session_token("hush-token");
        let signer = Signer::new(&credentials).unwrap();
        let mut metadata = MetadataMap::new();
        signer.sign(&mut metadata, SystemTime::now());
        assert_eq!(metadata.get("x-mq-session-token").unwrap(), "hush-token");
        let signature = signer.authorization(metadata.get("x-mq-date-time").unwrap().to_str().unwrap());
        assert_eq!(metadata.get("authorization").unwrap(), signature.as_str());
        let shown = format!("{credentials:?} {signer:?} {metadata:?}");
        assert!(!shown.contains("hush") && !shown.contains("Signature="), "{shown}");
    }
}
