//! Signs requests for brokers that authenticate clients (Apache's `AclClientRPCHook`). The signature is HMAC-SHA1 over the
//! values of all header fields, ordered by field name, followed by the body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::RemotingCommand;

const ACCESS_KEY: &str = "AccessKey";
const SIGNATURE: &str = "Signature";

/// Signs requests with the credentials of one user.
#[derive(Clone)]
pub struct Signer {
    access_key: String,
    mac: Hmac<Sha1>,
}

impl Signer {
    /// Creates a signer for this user.
    #[must_use]
    pub fn new(access_key: &str, secret_key: &str) -> Self {
        let mac = Hmac::new_from_slice(secret_key.as_bytes()).expect("HMAC takes keys of any length");
        Self { access_key: access_key.to_owned(), mac }
    }

    /// Signs a request, whose fields must all be set already.
    pub fn sign(&self, command: &mut RemotingCommand) {
        command.fields.insert(ACCESS_KEY.into(), self.access_key.clone());
        command.fields.remove(SIGNATURE);
        let mut mac = self.mac.clone();
        for value in command.fields.values() {
            mac.update(value.as_bytes());
        }
        mac.update(&command.body);
        command.fields.insert(SIGNATURE.into(), STANDARD.encode(mac.finalize().into_bytes()));
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_fields_in_the_order_of_their_names_and_then_the_body() {
        // HMAC-SHA1("secret", "ak" "v1" "v2" "body"), computed with another implementation.
        let mut command = RemotingCommand::request(105).field("b", "v2").field("a", "v1").body("body");
        Signer::new("ak", "secret").sign(&mut command);
        assert_eq!(command.text("Signature"), Some("lpqfPfZBZGc6Ur/He83FfnL1tKE="));
        let signed = command.clone();
        Signer::new("ak", "secret").sign(&mut command);
        assert_eq!(command, signed);
    }
}
