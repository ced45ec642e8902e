//! Access control, wherever its users are.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::AppError;
use crate::config::Config;
use crate::layer::{AccessControl, FirstUser};
use crate::service::Administration;

/// The file in the data directory with the key of the secrets in the catalog.
const KEY_FILE: &str = "access.key";

/// Opens access control, if it is configured, and follows changes of its files. Returns the first user, too, if users are in
/// the catalog and there were none.
///
/// # Errors
/// Users and policies can't be read.
pub(super) async fn open(
    config: &Config,
    backend: &Arc<dyn Administration>,
) -> Result<(Option<Arc<AccessControl>>, Option<FirstUser>), AppError> {
    let (access, first_user) = if config.access.catalog {
        let (access, first_user) =
            AccessControl::open_catalog(&config.access, backend, &key_file(config), tell).await?;
        (Some(access), first_user)
    } else {
        (AccessControl::open(&config.access, backend)?, None)
    };
    let access = access.map(Arc::new);
    if let Some(access) = &access {
        tokio::spawn(access.clone().run());
    }
    Ok((access, first_user))
}

/// Tells the first user, on standard error: the first line of standard output is the address.
fn tell(FirstUser { name, secret }: &FirstUser) {
    let text = format!(
        "the catalog has no users yet: access key {name}, secret key {secret} (a super user; the secret is not shown again)"
    );
    // Without standard error nobody is there to be told.
    let _ = writeln!(io::stderr(), "{text}");
}

fn key_file(config: &Config) -> PathBuf {
    let kept = || config.backend.embedded.data_dir.join(KEY_FILE);
    config.access.key_file.clone().unwrap_or_else(kept)
}
