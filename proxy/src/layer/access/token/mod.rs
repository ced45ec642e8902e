//! Session tokens: JWTs of configured issuers, signed with asymmetric keys. A token authenticates a user; policies authorize
//! the user's requests.

mod config;
mod key_set;
mod keys;
mod ring;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::{Error as TokenError, ErrorKind as TokenErrorKind};
use jsonwebtoken::{Algorithm, TokenData, Validation, decode, decode_header};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::file::AccessError;
use crate::context::{Credentials, Signed};
use crate::error::Error;
use crate::file_version::FileVersion;
pub use config::{IssuerConfig, IssuerMistake};
use key_set::KeySet;
use keys::{Key, MAX_KEYS_FILE};

/// The longest token in bytes: headers may have 8 KiB by default. The tokens of real issuers have one or two thousand bytes.
const MAX_TOKEN: usize = 6 << 10;
/// The number of verified tokens that are cached.
const MAX_VERIFIED_TOKENS: usize = 10_000;

/// The trusted issuers, and a cache of their verified tokens.
pub(super) struct Issuers {
    issuers: Vec<Arc<Issuer>>,
    /// Verified tokens by their digests.
    verified: Cache<[u8; 32], Arc<VerifiedToken>>,
}

#[derive(Clone)]
struct Issuer {
    config: IssuerConfig,
    validation: Validation,
    keys: Vec<Key>,
    /// The version of the file of keys that was loaded last, if the keys are in a file.
    version: Option<FileVersion>,
    /// Notified when a token is signed with an unknown key.
    missing_key: Arc<Notify>,
}

/// An issuer with changed keys, and its index.
pub(super) struct ChangedIssuer(usize, Arc<Issuer>);

/// A verified token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VerifiedToken {
    /// The name of the user.
    pub(super) user: String,
    /// When the token expires, leeway included. `None` if that is beyond all times.
    expires: Option<SystemTime>,
    /// The index of the issuer, and the digest of the key that signed the token.
    signed_by: (usize, [u8; 32]),
}

/// The claims that are read before the signature is verified.
#[derive(Deserialize)]
struct Claimed {
    iss: String,
}

impl Issuers {
    /// Opens issuers, and reads their files of keys.
    ///
    /// # Errors
    /// A file can't be read, or is invalid.
    pub(super) fn open(configs: &[IssuerConfig]) -> Result<Self, AccessError> {
        let issuers = configs.iter().map(|config| Issuer::open(config).map(Arc::new));
        Ok(Self::of(issuers.collect::<Result<_, _>>()?))
    }

    fn of(issuers: Vec<Arc<Issuer>>) -> Self {
        if issuers.is_empty() {
            return Self { issuers, verified: Cache::new(0) };
        }
        ring::install();
        Self { issuers, verified: Cache::new(MAX_VERIFIED_TOKENS) }
    }

    /// Reloads the files of keys that have changed, and returns their issuers. An issuer whose file is invalid keeps its keys
    /// until the next change.
    pub(super) fn reload(&self) -> Vec<ChangedIssuer> {
        let changed = self.issuers.iter().enumerate().filter_map(|(index, issuer)| {
            let version = issuer.config.keys_file.as_deref().map(FileVersion::of);
            if version == issuer.version {
                return None;
            }
            let name = &issuer.config.issuer;
            let reloaded = match Issuer::open(&issuer.config) {
                Ok(reloaded) => {
                    let keys = reloaded.keys.len();
                    tracing::info!(issuer = name, keys, "the keys of an issuer have changed");
                    reloaded
                }
                Err(error) => {
                    tracing::error!(issuer = name, %error, "failed to reload the keys of an issuer, keeping the previous ones");
                    Issuer { version, ..(**issuer).clone() }
                }
            };
            Some(ChangedIssuer(index, Arc::new(reloaded)))
        });
        changed.collect()
    }

    /// These issuers with changes, and an empty cache, so that tokens are verified again.
    pub(super) fn with(&self, changes: Vec<ChangedIssuer>) -> Self {
        let mut issuers = self.issuers.clone();
        for ChangedIssuer(index, issuer) in changes {
            issuers[index] = issuer;
        }
        Self::of(issuers)
    }

    /// Fetches the keys of issuers that publish them, periodically. Calls `hand_over` with each change.
    pub(super) async fn fetch(&self, hand_over: impl Fn(ChangedIssuer)) {
        let fetches = self.issuers.iter().enumerate().filter_map(|(index, issuer)| {
            let set = KeySet::at(issuer.config.keys_url.as_deref()?).ok()?;
            let hand_over = &hand_over;
            let hand_over = move |keys| {
                let changed = Issuer { keys, ..(**issuer).clone() };
                hand_over(ChangedIssuer(index, Arc::new(changed)));
            };
            Some(key_set::poll(set, &issuer.config.issuer, &issuer.missing_key, hand_over))
        });
        join_all(fetches).await;
    }

    /// The token that authenticates a request, in preference to other credentials. Without issuers, a token beside a signature
    /// is ignored.
    pub(super) fn token<'c>(&self, sent: &'c Credentials) -> Option<&'c str> {
        let decides = !self.issuers.is_empty() || matches!(sent.signed, Signed::Token);
        Some(sent.session_token.as_str()).filter(|token| decides && !token.is_empty())
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// `Unauthorized` if it is malformed, expired, for another audience, or not signed by one of the issuers.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Arc<VerifiedToken>, Error> {
        if self.issuers.is_empty() {
            return Err(Error::unauthorized("session tokens are not accepted here."));
        }
        if token.len() > MAX_TOKEN {
            return Err(Error::unauthorized(format!("the session token is longer than {MAX_TOKEN} bytes.")));
        }
        let digest = Sha256::digest(token).into();
        let verified = match self.verified.get(&digest) {
            Some(verified) => verified,
            None => {
                let verified = Arc::new(self.check(token)?);
                self.verified.insert(digest, verified.clone());
                verified
            }
        };
        verified.remaining(now)?;
        Ok(verified)
    }

    /// Verifies a token that is not in the cache.
    fn check(&self, token: &str) -> Result<VerifiedToken, Error> {
        let header = decode_header(token).map_err(|error| refused(&error))?;
        let claimed: Claimed = insecure_decode_claims(token).map_err(|error| refused(&error))?;
        let named = self.issuers.iter().enumerate().find(|(_, issuer)| issuer.config.issuer == claimed.iss);
        let Some((index, issuer)) = named else {
            return Err(Error::unauthorized("the issuer of the session token is unknown."));
        };
        if !issuer.validation.algorithms.contains(&header.alg) {
            return Err(refused(&TokenErrorKind::InvalidAlgorithm.into()));
        }
        let mut fitting =
            issuer.keys.iter().filter(|key| key.fits(header.kid.as_deref(), header.alg)).peekable();
        let mut refusal = Error::unauthorized("the session token is signed with an unknown key.");
        if fitting.peek().is_none() {
            issuer.missing_key.notify_one();
        }
        let validation = issuer.validation_of(header.alg);
        for key in fitting {
            match decode(token, &key.key, &validation) {
                Ok(TokenData { claims, .. }) => return issuer.accept(&claims, (index, key.digest)),
                Err(error) => refusal = refused(&error),
            }
        }
        Err(refusal)
    }

    /// Checks that the issuer of a token still has the key that signed it.
    ///
    /// # Errors
    /// `Unauthorized` if the key was withdrawn.
    pub(super) fn check_signing_key(
        &self,
        VerifiedToken { signed_by: (issuer, digest), .. }: &VerifiedToken,
    ) -> Result<(), Error> {
        let issuer = self.issuers.get(*issuer);
        if issuer.is_some_and(|issuer| issuer.keys.iter().any(|key| key.digest == *digest)) {
            return Ok(());
        }
        Err(Error::unauthorized("the key of the session token was withdrawn."))
    }
}

impl IssuerConfig {
    /// Checks the file of keys, if there is one.
    ///
    /// # Errors
    /// The file can't be read, or is invalid.
    pub fn check_keys(&self) -> Result<(), AccessError> {
        Issuer::open(self).map(drop)
    }
}

impl Issuer {
    fn open(config: &IssuerConfig) -> Result<Self, AccessError> {
        // Taken before reading, so that a later change is noticed by the next reload.
        let version = config.keys_file.as_deref().map(FileVersion::of);
        let keys = match &config.keys_file {
            Some(path) => {
                let text = read(path).map_err(|source| AccessError::System { path: path.clone(), source })?;
                keys::read(&text).map_err(|reason| AccessError::Content { path: path.clone(), reason })?
            }
            None => Vec::new(),
        };
        let mut validation = Validation {
            algorithms: config.allowed().collect(),
            leeway: config.leeway.as_secs(),
            validate_nbf: true,
            ..Validation::default()
        };
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&config.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        Ok(Self { config: config.clone(), validation, keys, version, missing_key: Arc::default() })
    }

    /// The requirements for a token that is signed with this algorithm.
    fn validation_of(&self, algorithm: Algorithm) -> Validation {
        Validation { algorithms: vec![algorithm], ..self.validation.clone() }
    }

    /// Takes the user and the expiry from the claims of a token with a valid signature.
    fn accept(
        &self,
        claims: &Map<String, Value>,
        signed_by: (usize, [u8; 32]),
    ) -> Result<VerifiedToken, Error> {
        let IssuerConfig { user_claim, user_prefix, leeway, .. } = &self.config;
        let Some(user) = claims.get(user_claim).and_then(Value::as_str).filter(|user| !user.is_empty())
        else {
            return Err(Error::unauthorized(format!(
                "the session token has no user name in the claim {user_claim}."
            )));
        };
        // `jsonwebtoken` has checked that it is a number.
        let expires = claims.get("exp").and_then(Value::as_f64);
        let expires = expires.and_then(|expires| Duration::try_from_secs_f64(expires).ok());
        let expires = expires.and_then(|expires| UNIX_EPOCH.checked_add(expires)?.checked_add(*leeway));
        Ok(VerifiedToken { user: format!("{user_prefix}{user}"), expires, signed_by })
    }
}

impl VerifiedToken {
    /// The time until the token expires.
    ///
    /// # Errors
    /// `Unauthorized` if it has expired.
    pub(super) fn remaining(&self, now: SystemTime) -> Result<Duration, Error> {
        let left = self.expires.map_or(Some(Duration::MAX), |expires| expires.duration_since(now).ok());
        left.ok_or_else(|| refused(&TokenErrorKind::ExpiredSignature.into()))
    }
}

/// Reads a file of keys.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    if fs::metadata(path)?.len() > MAX_KEYS_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large to be a file of keys"));
    }
    File::open(path)?.take(MAX_KEYS_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The refusal of a token. Its text says what the issuer has to change, and contains nothing of the token.
fn refused(error: &TokenError) -> Error {
    let reason = match error.kind() {
        TokenErrorKind::ExpiredSignature => "has expired".to_owned(),
        TokenErrorKind::ImmatureSignature => "is not valid yet".to_owned(),
        TokenErrorKind::InvalidSignature => "has a wrong signature".to_owned(),
        TokenErrorKind::InvalidAlgorithm => "is signed with an algorithm that is not allowed".to_owned(),
        TokenErrorKind::InvalidAudience => "is for another audience".to_owned(),
        TokenErrorKind::MissingRequiredClaim(claim) => format!("has no {claim}"),
        _ => "can't be read".to_owned(),
    };
    Error::unauthorized(format!("the session token {reason}."))
}

#[cfg(test)]
mod tests;
