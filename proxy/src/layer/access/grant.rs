//! What a user was granted for a while: for a request that waits, or a stream.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::rights::Needs;
use super::seal::Secret;
use super::token::Verified;
use super::{InForce, unauthorized};
use crate::error::Error;

/// The clock is looked at this often, because it may be set.
const CLOCK_LOOK: Duration = Duration::from_secs(3);

/// What was granted. It is checked again whenever the rules or the keys of issuers change, and when a token expires.
pub(in crate::layer) struct Grant {
    pub(super) changes: watch::Receiver<Arc<InForce>>,
    pub(super) user: String,
    pub(super) proof: Proof,
    pub(super) from: Option<IpAddr>,
    pub(super) needs: Needs<String>,
}

/// How a user has proved who they are.
pub(super) enum Proof {
    /// By this secret.
    Secret(Arc<Secret>),
    /// By a certificate with these names.
    Certificate(Arc<[String]>),
    /// By a session token.
    Token(Arc<Verified>),
}

impl Grant {
    /// Completes when the user may no longer do what was granted.
    pub(in crate::layer) async fn revoked(&mut self) -> Error {
        loop {
            tokio::select! {
                expired = self.proof.expired() => return expired,
                changed = self.changes.changed() => if changed.is_err() {
                    // Only while the proxy ends.
                    return std::future::pending().await;
                },
            }
            let now = self.changes.borrow_and_update().clone();
            if let Err(error) = self.check(&now) {
                return error;
            }
        }
    }

    fn check(&self, InForce { rules, issuers }: &InForce) -> Result<(), Error> {
        match &self.proof {
            Proof::Secret(secret) => rules.unchanged(&self.user, secret)?,
            Proof::Certificate(names) if rules.certified(names) == Some(&self.user) => {}
            Proof::Certificate(_) => {
                let user = &self.user;
                return Err(unauthorized(format!("User:{user} is not known by this certificate any more.")));
            }
            Proof::Token(token) => issuers.still_signs(token)?,
        }
        rules.check(&self.user, &self.needs.as_refs(), self.from)
    }
}

impl Proof {
    /// Completes when a token expires, and never if there is none.
    // In a box of its own if there is one: every request's future would be larger.
    fn expired(&self) -> BoxFuture<'static, Error> {
        let Self::Token(token) = self else { return Box::pin(std::future::pending()) };
        let token = token.clone();
        Box::pin(async move {
            loop {
                match token.left(SystemTime::now()) {
                    Ok(left) => tokio::time::sleep(left.min(CLOCK_LOOK)).await,
                    Err(expired) => return expired,
                }
            }
        })
    }
}
