//! The signatures of RocketMQ's clients: an HMAC-SHA1 with the user's secret.
//!
//! In gRPC, `MQv2-HMAC-SHA1 Credential=KEY[/…], SignedHeaders=…, Signature=HEX` signs the text of `x-mq-date-time`. In the
//! remoting protocol, the fields and the body are signed, without a time. HTTP clients send the secret itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::secret_encryption::Secret;
use crate::context::{Credentials, Signed};
use crate::error::Error;

/// A parsed signature that is not verified yet.
pub(super) struct Signature<'a> {
    /// The user that the request claims to come from.
    pub(super) user: &'a str,
    signature: Vec<u8>,
    signed: &'a Signed,
}

impl<'a> Signature<'a> {
    /// Parses a signature in any of the forms that official clients send. The texts of refusals are those of Apache's proxy.
    pub(super) fn read(credentials: Option<&'a Credentials>) -> Result<Self, Error> {
        let refuse = |text: &str| Err(Error::unauthorized(text));
        if let Some(Credentials { signed: signed @ Signed::Nothing { user, secret }, .. }) = credentials {
            return Ok(Self { user, signature: secret.as_bytes().to_vec(), signed });
        }
        let Some(credentials) = credentials.filter(|credentials| !credentials.authorization.is_empty())
        else {
            return refuse("username cannot be null.");
        };
        let signed = &credentials.signed;
        if matches!(signed, Signed::Time(time) if time.is_empty()) {
            return refuse("datetime is null.");
        }
        let Some((_, items)) = credentials.authorization.split_once(' ') else {
            return refuse("authentication header is incorrect.");
        };
        // As in Java, empty items at the end don't count, and a single empty item does.
        let listed = if items.is_empty() { items } else { items.trim_end_matches(',') };
        let items = listed.split(',').filter(|_| items.is_empty() || !listed.is_empty());
        let (mut user, mut signature) = ("", Vec::new());
        for item in items {
            let Some((key, value)) = item.trim().split_once('=') else {
                return refuse("authentication keyValues length is incorrect, actual length=1.");
            };
            match key {
                // In the remoting protocol, this is the access key alone.
                "Credential" if matches!(signed, Signed::Request { .. }) => user = value,
                "Credential" if !value.is_empty() && value.trim_matches('/').is_empty() => {
                    return refuse("authentication credential length is incorrect, actual length=0.");
                }
                "Credential" => user = value.split('/').next().unwrap_or_default(),
                "Signature" => match decode(signed, value) {
                    Some(decoded) => signature = decoded,
                    None => return refuse("create authentication context error."),
                },
                _ => {}
            }
        }
        if user.is_empty() {
            return refuse("username cannot be null.");
        }
        Ok(Self { user, signature, signed })
    }

    /// Whether the signature was created with this secret. Compares in constant time.
    pub(super) fn is_made_with(&self, secret: &Secret) -> bool {
        if let Signed::Nothing { secret: sent, .. } = self.signed {
            // Digests have the same length, so that the time of the comparison does not reveal the length of the secret.
            return Sha256::digest(sent).ct_eq(&Sha256::digest(secret.bytes())).into();
        }
        let Ok(mac) = Hmac::<Sha1>::new_from_slice(secret.bytes()) else { return false };
        let mac = match self.signed {
            Signed::Time(time) => mac.chain_update(time),
            Signed::Request { fields, body } => mac.chain_update(fields).chain_update(body),
            Signed::Nothing { .. } | Signed::Token => return false,
        };
        mac.verify_slice(&self.signature).is_ok()
    }

    /// The time in the signature. `None` in protocols that sign no time.
    pub(super) fn time(&self) -> Result<Option<SystemTime>, Error> {
        let Signed::Time(text) = self.signed else { return Ok(None) };
        time(text).map(Some).ok_or_else(stale)
    }
}

/// Decodes the text of a signature. `None` if a signature of gRPC is not hexadecimal. Other texts that can't be decoded match no
/// signature.
fn decode(signed: &Signed, text: &str) -> Option<Vec<u8>> {
    match signed {
        Signed::Time(_) => hex::decode(text).ok(),
        Signed::Request { .. } => Some(STANDARD.decode(text).unwrap_or_default()),
        Signed::Nothing { .. } | Signed::Token => None,
    }
}

/// The refusal of a signature whose time is too far from the proxy's clock or can't be parsed.
pub(super) fn stale() -> Error {
    Error::unauthorized("the time in the signature is too far from the server's.")
}

/// Parses the time in a signature: `20260131T235959Z`, or RFC 3339 with or without fractions and an offset.
fn time(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', ' '])?;
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let end = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let clock = rest.get(..end)?.split('.').next()?;
    let (date, clock) = (digits(date), digits(clock));
    if date.len() != 8 || clock.len() != 6 {
        return None;
    }
    let plain = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &clock[..2],
        &clock[2..4],
        &clock[4..]
    );
    let local = humantime::parse_rfc3339(&plain).ok()?;
    let offset = rest.get(end..)?;
    let east = offset.starts_with('+');
    let offset = digits(offset);
    if offset.is_empty() {
        return Some(local);
    }
    let hours: u64 = offset.get(..2)?.parse().ok()?;
    let minutes: u64 = offset.get(2..4).map_or(Some(0), |minutes| minutes.parse().ok())?;
    let offset = Duration::from_secs(hours * 3600 + minutes * 60);
    let moved = if east { local.checked_sub(offset) } else { local.checked_add(offset) };
    moved.filter(|time| *time >= UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_official_clients_are_parsed() {
        let expected = humantime::parse_rfc3339("2026-01-31T23:59:59Z").ok();
        for text in [
            "20260131T235959Z",
            "2026-01-31T23:59:59Z",
            "2026-01-31T23:59:59.123456789Z",
            "2026-02-01T07:59:59+08:00",
            "2026-02-01T07:59:59.5+0800",
            "2026-01-31T18:59:59-05:00",
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
        for text in ["", "yesterday", "20261331T000000Z", "2026-01-31", "T", "20260131T2359Z", "１２"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
