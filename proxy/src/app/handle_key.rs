//! Generates and stores the key that seals receipt handles, if none is configured.

use std::io;
use std::path::Path;

use crate::durable_file;
use crate::processor::HandleKey;

/// The file in the data directory that holds a generated handle key.
const HANDLE_KEY_FILE: &str = "handle.key";
const HANDLE_KEY_BYTES: usize = 32;

/// Generates a key for a proxy without a configured key and without a data directory.
pub(super) fn random() -> HandleKey {
    tracing::warn!(
        "no handle_key is configured: other proxies will not accept the receipt handles of this proxy, nor will this proxy after a restart"
    );
    let key: [u8; HANDLE_KEY_BYTES] = rand::random();
    HandleKey::new(&key)
}

/// Reads the key in the data directory, or creates it. The backend has locked the directory, so that no other process
/// creates the key at the same time.
pub(super) fn read_or_create(data_dir: &Path) -> io::Result<HandleKey> {
    let path = data_dir.join(HANDLE_KEY_FILE);
    match std::fs::read(&path) {
        Ok(key) if key.len() == HANDLE_KEY_BYTES => return Ok(HandleKey::new(&key)),
        // A new key would make all handles invalid.
        Ok(key) => {
            let problem = format!(
                "{} has {} bytes instead of {HANDLE_KEY_BYTES}: restore it, or delete it, which makes all receipt \
                 handles invalid",
                path.display(),
                key.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key: [u8; HANDLE_KEY_BYTES] = rand::random();
    // Written durably: without the key, all receipt handles would become invalid.
    durable_file::replace(&path, &key)?;
    Ok(HandleKey::new(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_and_a_damaged_one_is_not_replaced() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        read_or_create(directory.path()).expect("a new key");
        let path = directory.path().join(HANDLE_KEY_FILE);
        let key = std::fs::read(&path).expect("a file");
        read_or_create(directory.path()).expect("the same key");
        assert_eq!(std::fs::read(&path).expect("a file"), key);
        std::fs::write(&path, &key[..31]).expect("damaged");
        let error = read_or_create(directory.path()).err().expect("refused");
        assert!(error.to_string().contains("31 bytes instead of 32"), "{error}");
        assert_eq!(std::fs::read(&path).expect("a file"), key[..31]);
    }
}
