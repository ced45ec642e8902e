//! Stores users and policies in the catalog of the embedded broker, where administrators change them while the proxy runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::acl_index::AclIndex;
use super::file::AccessError;
use super::policy::{Action, Effect};
use super::secret_encryption::SecretKey;
use super::stored_acl::{NewUser, PolicyEntry, StoredAcl, UserEntry};
use crate::error::{Error, ErrorKind};
use crate::service::{Administration, StoredUser};

/// The users and policies in a catalog.
pub(super) struct AclCatalog {
    store: Arc<dyn Administration>,
    key: Arc<SecretKey>,
    key_path: PathBuf,
    /// Locked during a change, so that changes are made one at a time.
    pub(super) acl: Mutex<StoredAcl>,
}

/// The first super user, with the secret in plain text. It is created in a catalog without users, and printed once.
pub struct FirstUser {
    /// The access key.
    pub name: String,
    /// The secret key.
    pub secret: String,
}

/// The result of opening a catalog.
pub(super) struct OpenCatalog {
    pub(super) catalog: AclCatalog,
    pub(super) acl_index: AclIndex,
    pub(super) first_user: Option<FirstUser>,
}

/// A user with their policies, stored as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    user: UserEntry,
    policies: Vec<NumberedPolicy>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberedPolicy {
    number: u32,
    resource: String,
    actions: Vec<Action>,
    from: Vec<ipnet::IpNet>,
    effect: Effect,
}

impl AclCatalog {
    /// Reads all users. If there are none, creates a super user. `announce` is called with that user before it is stored:
    /// otherwise its secret would be lost if the start failed afterwards.
    pub(super) async fn open(
        store: Arc<dyn Administration>,
        key_path: &Path,
        announce: impl FnOnce(&FirstUser),
    ) -> Result<OpenCatalog, AccessError> {
        let stored = store.stored_users().await?;
        let system = |source| AccessError::System { path: key_path.to_owned(), source };
        if !stored.is_empty() && !key_path.exists() {
            let reason = "it does not exist, and the secrets of the catalog's users are sealed with it";
            return Err(system(std::io::Error::new(std::io::ErrorKind::NotFound, reason)));
        }
        let key = SecretKey::of_file(key_path).map_err(system)?;
        let mut acl = read(&stored).map_err(AccessError::CatalogContent)?;
        let mut first_user = None;
        if acl.users.is_empty() {
            let admin = NewUser::admin();
            let name = admin.name.clone();
            let secret = acl.add_user(admin, &key);
            let secret = secret.map_err(|error| AccessError::CatalogContent(error.message))?;
            let stored = record(&acl, &name);
            first_user = secret.map(|secret| FirstUser { name, secret });
            first_user.as_ref().map(announce);
            store.put_user(stored).await?;
        }
        let acl_index = acl.acl_index(&key, key_path).map_err(AccessError::CatalogContent)?;
        let (key, key_path) = (Arc::new(key), key_path.to_owned());
        let catalog = Self { store, key, key_path, acl: Mutex::new(acl) };
        Ok(OpenCatalog { catalog, acl_index, first_user })
    }

    /// Applies `change`, which returns the name of the changed user and a result, and stores that user. `put` puts the new
    /// rules in force.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut StoredAcl, &SecretKey) -> Result<(String, T), Error> + Send + 'static,
        put: impl FnOnce(AclIndex),
    ) -> Result<T, Error> {
        let mut acl = self.acl.lock().await;
        let (mut changed, key, key_path) = (acl.clone(), self.key.clone(), self.key_path.clone());
        // Blocking, because it processes all users.
        let work = tokio::task::spawn_blocking(move || {
            let (name, result) = change(&mut changed, &key)?;
            if !changed.has_super_user() {
                let text = format!(
                    "{name} is the last enabled super user, without whom users can't be changed; create another one first"
                );
                return Err(Error::new(ErrorKind::BadRequest, text));
            }
            let bad = |reason| Error::new(ErrorKind::BadRequest, reason);
            let acl_index = changed.acl_index(&key, &key_path).map_err(bad)?;
            let record = changed.users.iter().any(|user| user.name == name).then(|| record(&changed, &name));
            Ok((changed, acl_index, name, record, result))
        });
        let done = work.await.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        let (changed, acl_index, name, record, result) = done?;
        match record {
            Some(record) => self.store.put_user(record).await?,
            None => self.store.remove_user(&name).await?,
        }
        tracing::info!(user = name, users = acl_index.users(), "users and policies have changed");
        put(acl_index);
        *acl = changed;
        Ok(result)
    }
}

/// The stored form of a user with their policies.
fn record(acl: &StoredAcl, name: &str) -> StoredUser {
    let user = acl.users.iter().find(|user| user.name == name);
    let user = user.cloned().expect("only users that exist are stored");
    let policies = acl.policies.iter().filter(|policy| policy.user == name);
    let policies = policies.map(|policy| NumberedPolicy {
        number: policy.number,
        resource: policy.resource.clone(),
        actions: policy.actions.clone(),
        from: policy.from.clone(),
        effect: policy.effect,
    });
    let record = Record { user, policies: policies.collect() };
    let record = serde_json::to_vec(&record).expect("a record has only names, lists and numbers");
    StoredUser { name: name.to_owned(), record }
}

/// Parses the stored users.
fn read(stored: &[StoredUser]) -> Result<StoredAcl, String> {
    let mut acl = StoredAcl::default();
    for StoredUser { name, record } in stored {
        // The parser's message is left out: it could contain a part of the record.
        let record: Record = serde_json::from_slice(record)
            .map_err(|_| format!("the record of user {name} can't be parsed by this version"))?;
        if record.user.name != *name {
            return Err(format!(
                "the record of user {name} has the name of another user, {}",
                record.user.name
            ));
        }
        acl.users.push(record.user);
        for NumberedPolicy { number, resource, actions, from, effect } in record.policies {
            acl.last_number = acl.last_number.max(number);
            let user = name.clone();
            acl.policies.push(PolicyEntry { number, user, resource, actions, from, effect });
        }
    }
    acl.policies.sort_by_key(|policy| policy.number);
    Ok(acl)
}
