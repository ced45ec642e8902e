//! Users and policies in the catalog of the embedded broker. Administrators change them while the proxy runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::file::AccessError;
use super::policy::{Action, Effect};
use super::rules::Rules;
use super::seal::SecretKey;
use super::tables::{NewUser, PolicyEntry, Tables, UserEntry};
use crate::error::{Error, ErrorKind};
use crate::service::{Administration, StoredUser};

/// The users and policies of a catalog.
pub(super) struct Catalog {
    store: Arc<dyn Administration>,
    key: Arc<SecretKey>,
    key_path: PathBuf,
    /// Locked while something is changed, so that there is one change at a time.
    pub(super) tables: Mutex<Tables>,
}

/// The first super user of a new catalog, to be told once.
pub struct FirstUser {
    /// The access key.
    pub name: String,
    /// The secret key.
    pub secret: String,
}

/// What was read of a catalog.
pub(super) struct OpenCatalog {
    pub(super) catalog: Catalog,
    pub(super) rules: Rules,
    pub(super) first_user: Option<FirstUser>,
}

/// A user with their policies, as it is stored: JSON.
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

impl Catalog {
    /// Reads all users. If there are none, makes one who may do everything. `tell` gets that one before it is stored: nobody
    /// could tell its secret after a start that failed later.
    pub(super) async fn open(
        store: Arc<dyn Administration>,
        key_path: &Path,
        tell: impl FnOnce(&FirstUser),
    ) -> Result<OpenCatalog, AccessError> {
        let stored = store.stored_users().await?;
        let system = |source| AccessError::System { path: key_path.to_owned(), source };
        if !stored.is_empty() && !key_path.exists() {
            let reason = "it does not exist, and the secrets of the catalog's users are sealed with it";
            return Err(system(std::io::Error::new(std::io::ErrorKind::NotFound, reason)));
        }
        let key = SecretKey::of_file(key_path).map_err(system)?;
        let mut tables = read(&stored).map_err(AccessError::CatalogContent)?;
        let mut first_user = None;
        if tables.users.is_empty() {
            let admin = NewUser::admin();
            let name = admin.name.clone();
            let told = tables.add_user(admin, &key);
            let told = told.map_err(|error| AccessError::CatalogContent(error.message))?;
            let stored = record(&tables, &name);
            first_user = told.map(|secret| FirstUser { name, secret });
            first_user.as_ref().map(tell);
            store.put_user(stored).await?;
        }
        let rules = tables.rules(&key, key_path).map_err(AccessError::CatalogContent)?;
        let (key, key_path) = (Arc::new(key), key_path.to_owned());
        let catalog = Self { store, key, key_path, tables: Mutex::new(tables) };
        Ok(OpenCatalog { catalog, rules, first_user })
    }

    /// Changes something of a user, whose name `change` returns, and stores it. The rules are put in force by `put`.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tables, &SecretKey) -> Result<(String, T), Error> + Send + 'static,
        put: impl FnOnce(Rules),
    ) -> Result<T, Error> {
        let mut tables = self.tables.lock().await;
        let (mut changed, key, key_path) = (tables.clone(), self.key.clone(), self.key_path.clone());
        // It looks at all users.
        let work = tokio::task::spawn_blocking(move || {
            let (name, told) = change(&mut changed, &key)?;
            if !changed.has_super_user() {
                let text = format!(
                    "{name} is the last enabled super user, without whom nobody could change users; make another one first"
                );
                return Err(Error::new(ErrorKind::BadRequest, text));
            }
            let bad = |reason| Error::new(ErrorKind::BadRequest, reason);
            let rules = changed.rules(&key, &key_path).map_err(bad)?;
            let record = changed.users.iter().any(|user| user.name == name).then(|| record(&changed, &name));
            Ok((changed, rules, name, record, told))
        });
        let done = work.await.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        let (changed, rules, name, record, told) = done?;
        match record {
            Some(record) => self.store.put_user(record).await?,
            None => self.store.remove_user(&name).await?,
        }
        tracing::info!(user = name, users = rules.users(), "users and policies have changed");
        put(rules);
        *tables = changed;
        Ok(told)
    }
}

fn record(tables: &Tables, name: &str) -> StoredUser {
    let user = tables.users.iter().find(|user| user.name == name);
    let user = user.cloned().expect("only users that exist are stored");
    let policies = tables.policies.iter().filter(|policy| policy.user == name);
    let policies = policies.map(|policy| NumberedPolicy {
        number: policy.number,
        resource: policy.resource.clone(),
        actions: policy.actions.clone(),
        from: policy.from.clone(),
        effect: policy.effect,
    });
    let record = Record { user, policies: policies.collect() };
    let record = serde_json::to_vec(&record).expect("it has only names, lists and numbers");
    StoredUser { name: name.to_owned(), record }
}

fn read(stored: &[StoredUser]) -> Result<Tables, String> {
    let mut tables = Tables::default();
    for StoredUser { name, record } in stored {
        // The text of the error is not told: it could show a part of the record.
        let record: Record = serde_json::from_slice(record)
            .map_err(|_| format!("the record of user {name} can't be read by this version"))?;
        if record.user.name != *name {
            return Err(format!("the record of user {name} is another one's"));
        }
        tables.users.push(record.user);
        for NumberedPolicy { number, resource, actions, from, effect } in record.policies {
            tables.last_number = tables.last_number.max(number);
            let user = name.clone();
            tables.policies.push(PolicyEntry { number, user, resource, actions, from, effect });
        }
    }
    tables.policies.sort_by_key(|policy| policy.number);
    Ok(tables)
}
