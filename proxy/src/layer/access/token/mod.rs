//! Session tokens: JWTs of configured issuers, signed with asymmetric keys. A token tells who the user is; what that user may
//! do is said by the policies.

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

use super::file::{AccessError, Stamp};
use super::unauthorized;
use crate::context::{Credentials, Signed};
use crate::error::Error;
pub use config::{IssuerConfig, IssuerMistake};
use key_set::KeySet;
use keys::Key;

/// The longest token: headers have 8 KiB by default. Those of real issuers have one or two thousand characters.
const MAX_TOKEN: usize = 6 << 10;
/// The largest file of keys, and the largest set that is fetched.
const MAX_KEYS_FILE: u64 = 1 << 20;
/// How many tokens are remembered as valid.
const REMEMBERED: usize = 10_000;

/// The issuers that are trusted, and the tokens of theirs that were found valid.
pub(super) struct Issuers {
    issuers: Vec<Arc<Issuer>>,
    /// By the digests of the tokens.
    verified: Cache<[u8; 32], Arc<Verified>>,
}

#[derive(Clone)]
struct Issuer {
    config: IssuerConfig,
    validation: Validation,
    keys: Vec<Key>,
    /// What the file of keys looked like, if they are in a file.
    stamp: Option<Stamp>,
    /// Told when a token is signed with a key that is not among them.
    missing_key: Arc<Notify>,
}

/// What an issuer is now, and its index.
pub(super) struct ChangedIssuer(usize, Arc<Issuer>);

/// A token that was found valid.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verified {
    /// The user whom it names.
    pub(super) user: String,
    /// When it stops being valid.
    expires: Option<SystemTime>,
    /// The index of its issuer, and the digest of the key that signed it.
    signed_by: (usize, [u8; 32]),
}

/// What is read before the signature is checked.
#[derive(Deserialize)]
struct Claimed {
    iss: String,
}

impl Issuers {
    /// Reads the keys of these issuers.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub(super) fn open(configs: &[IssuerConfig]) -> Result<Self, AccessError> {
        let issuers = configs.iter().map(|config| Issuer::open(config).map(Arc::new));
        Ok(Self::of(issuers.collect::<Result<_, _>>()?))
    }

    fn of(issuers: Vec<Arc<Issuer>>) -> Self {
        if issuers.is_empty() {
            return Self { issuers, verified: Cache::new(0) };
        }
        ring::install();
        Self { issuers, verified: Cache::new(REMEMBERED) }
    }

    /// The issuers whose files of keys have changed, with what is in them now. An issuer whose file has a mistake keeps its keys,
    /// until the next change.
    pub(super) fn reloaded(&self) -> Vec<ChangedIssuer> {
        let changed = self.issuers.iter().enumerate().filter_map(|(index, issuer)| {
            let stamp = issuer.config.keys_file.as_deref().map(Stamp::of);
            if stamp == issuer.stamp {
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
                    tracing::error!(issuer = name, %error, "the keys of an issuer stay as they were");
                    Issuer { stamp, ..(**issuer).clone() }
                }
            };
            Some(ChangedIssuer(index, Arc::new(reloaded)))
        });
        changed.collect()
    }

    /// These issuers, with what has changed. Tokens are checked again.
    pub(super) fn with(&self, changes: Vec<ChangedIssuer>) -> Self {
        let mut issuers = self.issuers.clone();
        for ChangedIssuer(index, issuer) in changes {
            issuers[index] = issuer;
        }
        Self::of(issuers)
    }

    /// Fetches the keys of issuers that publish them, again and again, and hands changes over.
    pub(super) async fn fetch(&self, hand_over: impl Fn(ChangedIssuer)) {
        let fetches = self.issuers.iter().enumerate().filter_map(|(index, issuer)| {
            let set = KeySet::at(issuer.config.keys_url.as_deref()?).ok()?;
            let hand_over = &hand_over;
            let hand_over = move |keys| {
                let changed = Issuer { keys, ..(**issuer).clone() };
                hand_over(ChangedIssuer(index, Arc::new(changed)));
            };
            Some(key_set::follow(set, &issuer.config.issuer, &issuer.missing_key, hand_over))
        });
        join_all(fetches).await;
    }

    /// The token that decides who sends a request, whatever else was sent. Without issuers, a token beside a signature is
    /// ignored.
    pub(super) fn token<'c>(&self, sent: &'c Credentials) -> Option<&'c str> {
        let decides = !self.issuers.is_empty() || matches!(sent.signed, Signed::Token);
        Some(sent.session_token.as_str()).filter(|token| decides && !token.is_empty())
    }

    /// Whom a token names, if one of the issuers has made it for this proxy.
    ///
    /// # Errors
    /// `Unauthorized`.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Arc<Verified>, Error> {
        if self.issuers.is_empty() {
            return Err(unauthorized("session tokens are not accepted here.".to_owned()));
        }
        if token.len() > MAX_TOKEN {
            return Err(unauthorized(format!("the session token is longer than {MAX_TOKEN} bytes.")));
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
        verified.left(now)?;
        Ok(verified)
    }

    fn check(&self, token: &str) -> Result<Verified, Error> {
        let header = decode_header(token).map_err(|error| refused(&error))?;
        let claimed: Claimed = insecure_decode_claims(token).map_err(|error| refused(&error))?;
        let named = self.issuers.iter().enumerate().find(|(_, issuer)| issuer.config.issuer == claimed.iss);
        let Some((index, issuer)) = named else {
            return Err(unauthorized("the issuer of the session token is not known.".to_owned()));
        };
        if !issuer.validation.algorithms.contains(&header.alg) {
            return Err(refused(&TokenErrorKind::InvalidAlgorithm.into()));
        }
        let mut fitting =
            issuer.keys.iter().filter(|key| key.fits(header.kid.as_deref(), header.alg)).peekable();
        let mut refusal =
            unauthorized("the session token is signed with a key that is not known.".to_owned());
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

    /// Whether the key that signed a token is still one of its issuer's.
    ///
    /// # Errors
    /// `Unauthorized` if not.
    pub(super) fn still_signs(
        &self,
        Verified { signed_by: (issuer, digest), .. }: &Verified,
    ) -> Result<(), Error> {
        let issuer = self.issuers.get(*issuer);
        if issuer.is_some_and(|issuer| issuer.keys.iter().any(|key| key.digest == *digest)) {
            return Ok(());
        }
        Err(unauthorized("the key of the session token is not known any more.".to_owned()))
    }
}

impl IssuerConfig {
    /// Reads the keys, if they are in a file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn check_keys(&self) -> Result<(), AccessError> {
        Issuer::open(self).map(drop)
    }
}

impl Issuer {
    fn open(config: &IssuerConfig) -> Result<Self, AccessError> {
        // A change after this is seen at the next look.
        let stamp = config.keys_file.as_deref().map(Stamp::of);
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
        Ok(Self { config: config.clone(), validation, keys, stamp, missing_key: Arc::default() })
    }

    /// What a token that is signed with this algorithm must have.
    fn validation_of(&self, algorithm: Algorithm) -> Validation {
        Validation { algorithms: vec![algorithm], ..self.validation.clone() }
    }

    fn accept(&self, claims: &Map<String, Value>, signed_by: (usize, [u8; 32])) -> Result<Verified, Error> {
        let IssuerConfig { user_claim, user_prefix, leeway, .. } = &self.config;
        let Some(user) = claims.get(user_claim).and_then(Value::as_str).filter(|user| !user.is_empty())
        else {
            return Err(unauthorized(format!("the session token has no text as {user_claim}.")));
        };
        // `jsonwebtoken` has seen that it is a time.
        let expires = claims.get("exp").and_then(Value::as_f64);
        let expires = expires.and_then(|expires| Duration::try_from_secs_f64(expires).ok());
        let expires = expires.and_then(|expires| UNIX_EPOCH.checked_add(expires)?.checked_add(*leeway));
        Ok(Verified { user: format!("{user_prefix}{user}"), expires, signed_by })
    }
}

impl Verified {
    /// How long it stays valid. Always, if its end is beyond all times.
    ///
    /// # Errors
    /// `Unauthorized` if it has expired.
    pub(super) fn left(&self, now: SystemTime) -> Result<Duration, Error> {
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

/// The refusal of a token. What its issuer should know is told, and nothing of its content.
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
    unauthorized(format!("the session token {reason}."))
}

#[cfg(test)]
mod tests;
