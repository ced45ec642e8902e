//! The access grant of a request that waits or opens a stream. It is checked again when rules or keys change.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::access_state::AccessState;
use super::rights::RequiredRights;
use super::secret_encryption::Secret;
use super::token::VerifiedToken;
use crate::error::Error;

/// The longest sleep until a token expires: the wall clock may be set meanwhile.
const MAX_CLOCK_WAIT: Duration = Duration::from_secs(3);

/// An access grant. It is checked again whenever the rules or the keys of issuers change, and when a token expires.
pub(in crate::layer) struct Grant {
    pub(super) changes: watch::Receiver<Arc<AccessState>>,
    pub(super) user: String,
    pub(super) proof: Proof,
    pub(super) from: Option<IpAddr>,
    pub(super) needs: RequiredRights<String>,
}

/// How a user was authenticated.
pub(super) enum Proof {
    /// By a signature with this secret.
    Secret(Arc<Secret>),
    /// By a certificate with these names.
    Certificate(Arc<[String]>),
    /// By a session token.
    Token(Arc<VerifiedToken>),
}

/// Why a grant no longer holds.
#[derive(Debug)]
pub struct Revoked {
    /// The refusal of a request with the same credentials.
    pub reason: Error,
    /// Whether only the session token has expired. Clients get another one.
    pub is_expiry: bool,
}

impl Grant {
    /// Completes when the grant no longer holds.
    pub(in crate::layer) async fn revoked(&mut self) -> Revoked {
        loop {
            tokio::select! {
                expired = self.proof.expired() => return Revoked { reason: expired, is_expiry: true },
                changed = self.changes.changed() => if changed.is_err() {
                    // The sender is dropped only when the proxy stops.
                    return std::future::pending().await;
                },
            }
            let now = self.changes.borrow_and_update().clone();
            if let Err(reason) = self.check(&now) {
                return Revoked { reason, is_expiry: false };
            }
        }
    }

    /// Authenticates and authorizes again.
    fn check(&self, AccessState { acl_index, issuers }: &AccessState) -> Result<(), Error> {
        match &self.proof {
            Proof::Secret(secret) => acl_index.check_secret(&self.user, secret)?,
            Proof::Certificate(names) if acl_index.user_of_certificate(names) == Some(&self.user) => {}
            Proof::Certificate(_) => {
                let user = &self.user;
                return Err(Error::unauthorized(format!(
                    "User:{user} is no longer known by this certificate."
                )));
            }
            Proof::Token(token) => issuers.check_signing_key(token)?,
        }
        acl_index.check(&self.user, &self.needs.as_refs(), self.from)
    }
}

impl Proof {
    /// Completes when the session token expires, and never if the user was authenticated otherwise.
    // Boxed, so that the future of every request is smaller.
    fn expired(&self) -> BoxFuture<'static, Error> {
        let Self::Token(token) = self else { return Box::pin(std::future::pending()) };
        let token = token.clone();
        Box::pin(async move {
            loop {
                match token.remaining(SystemTime::now()) {
                    Ok(left) => tokio::time::sleep(left.min(MAX_CLOCK_WAIT)).await,
                    Err(expired) => return expired,
                }
            }
        })
    }
}
