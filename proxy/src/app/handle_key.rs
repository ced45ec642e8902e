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
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key: [u8; HANDLE_KEY_BYTES] = rand::random();
    // Written durably: without the key, all receipt handles would become invalid.
    durable_file::replace(&path, &key)?;
    Ok(HandleKey::new(&key))
}
