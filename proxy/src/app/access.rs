//! Sets up access control with the configured source of users.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::error::AppError;
use crate::config::Config;
use crate::layer::{AccessControl, FirstUser};
use crate::service::Administration;

/// The file in the data directory with the key that seals the secrets in the catalog.
const KEY_FILE: &str = "access.key";

/// Opens access control if it is configured, and starts a task that applies changes of its users and keys. Also returns the
/// first user, if users are in the catalog and it had none.
///
/// # Errors
/// Users and policies can't be read.
pub(super) async fn open(
    config: &Config,
    backend: &Arc<dyn Administration>,
) -> Result<(Option<Arc<AccessControl>>, Option<FirstUser>), AppError> {
    let (access, first_user) = if config.access.catalog {
        let (access, first_user) =
            AccessControl::open_catalog(&config.access, backend, &key_file(config), print_first_user).await?;
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

/// Prints the first user to standard error: the first line of standard output must be the address.
fn print_first_user(FirstUser { name, secret }: &FirstUser) {
    let text = format!(
        "created the first user of the catalog: access key {name}, secret key {secret} (a super user; the secret is not shown again)"
    );
    // A closed standard error is not a reason to fail.
    let _ = writeln!(io::stderr(), "{text}");
}

fn key_file(config: &Config) -> PathBuf {
    let default = || config.backend.embedded.data_dir.join(KEY_FILE);
    config.access.key_file.clone().unwrap_or_else(default)
}
