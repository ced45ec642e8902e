//! Seals (encrypts) the secrets of users with a key in a separate file. Verifying a signature needs the secret itself, so
//! that a hash of it is not sufficient.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::durable_file;

const KEY_BYTES: usize = 32;
const SECRET_BYTES: usize = 24;
/// The version of the format, the prefix of a sealed secret.
const VERSION: &str = "v1.";

/// A user's secret. Its debug output is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// Generates a random secret. Also returns its text, to be shown once.
    #[must_use]
    pub fn random() -> (Self, String) {
        loop {
            let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET_BYTES]>());
            // Commands would treat such an argument as an option.
            if !text.starts_with('-') {
                return (Self::new(&text), text);
            }
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The key that seals secrets.
pub struct SecretKey(LessSafeKey);

impl SecretKey {
    /// Reads the key in a file. A file that does not exist is created with a random key, readable only by its owner.
    ///
    /// # Errors
    /// Errors of the system, and `InvalidData` if the file is not 32 bytes in base64.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it does not contain 32 bytes in base64");
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = STANDARD.encode(rand::random::<[u8; KEY_BYTES]>());
                match durable_file::create(path, text.as_bytes()) {
                    // Another process has created the file.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read_to_string(path)?,
                    created => created.map(|()| text)?,
                }
            }
            read => read?,
        };
        let key = STANDARD.decode(text.trim()).map_err(|_| wrong())?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| wrong())?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals a secret of a user. It can be opened only for the same user.
    #[must_use]
    pub fn seal(&self, user: &str, secret: &Secret) -> String {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut bytes = secret.0.clone();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(user), &mut bytes)
            .expect("a secret is far shorter than the cipher's limit");
        format!("{VERSION}{}", STANDARD.encode([&nonce[..], &bytes].concat()))
    }

    /// Opens a sealed secret of a user. `None` if it was sealed with another key or for another user, or is malformed.
    #[must_use]
    pub fn open(&self, user: &str, sealed: &str) -> Option<Secret> {
        let bytes = STANDARD.decode(sealed.strip_prefix(VERSION)?).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let secret = self.0.open_in_place(nonce, Aad::from(user), &mut sealed).ok()?;
        Some(Secret(secret.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_with_its_key_and_for_its_user() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = SecretKey::of_file(&folder.path().join("key")).expect("a key");
        let sealed = key.seal("alice", &Secret::new("open sesame"));
        assert!(!sealed.contains("sesame"));
        let again = SecretKey::of_file(&folder.path().join("key")).expect("the same key");
        assert_eq!(again.open("alice", &sealed), Some(Secret::new("open sesame")));
        assert_eq!(key.open("bob", &sealed), None);
        let other = SecretKey::of_file(&folder.path().join("other")).expect("a key");
        assert_eq!(other.open("alice", &sealed), None);
        for malformed in ["", "v1.", "v2.AAAA", "v1.AAAA", &sealed[..sealed.len() - 4]] {
            assert_eq!(key.open("alice", malformed), None, "{malformed}");
        }
    }

    #[test]
    fn only_the_owner_can_read_the_key() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        SecretKey::of_file(&path).expect("a key");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").expect("written");
        assert!(SecretKey::of_file(&path).is_err());
    }
}
