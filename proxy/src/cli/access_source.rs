//! The users and policies that `user` and `acl` read and change: in a file, or at a running proxy.

use super::access_error::AccessCommandError;
use crate::front::grpc::RemoteAdmin;
use crate::layer::{
    AccessFile, AccessQuery, Explanation, ListedUser, NewUser, PolicyEntry, Secret, StoredAcl, UserUpdate,
};

/// Where users and policies are stored.
pub(super) enum AccessSource {
    /// In a file, which this process reads and writes.
    File(AccessFile),
    /// In the catalog of a running proxy.
    Proxy(Box<RemoteAdmin>),
}

type Outcome<T> = Result<T, AccessCommandError>;

impl AccessSource {
    pub(super) async fn users(&mut self) -> Outcome<Vec<ListedUser>> {
        match self {
            Self::File(file) => Ok(file.read()?.into_list()),
            Self::Proxy(proxy) => Ok(proxy.users().await?),
        }
    }

    /// Adds a user with this secret. Without one, generates a random secret and returns it.
    pub(super) async fn add_user(
        &mut self,
        user: NewUser,
        secret: Option<String>,
    ) -> Outcome<Option<String>> {
        match self {
            Self::File(file) => {
                let user = NewUser { secret: secret.as_deref().map(Secret::new), ..user };
                change(file, |acl| Ok(acl.add_user(user, &file.key()?)?))
            }
            Self::Proxy(proxy) => Ok(proxy.add_user(user, secret).await?),
        }
    }

    pub(super) async fn update_user(&mut self, name: String, update: UserUpdate) -> Outcome<()> {
        match self {
            Self::File(file) => change(file, |acl| Ok(acl.update_user(&name, update, &file.key()?)?)),
            Self::Proxy(proxy) => Ok(proxy.update_user(name, update).await?),
        }
    }

    /// Replaces a user's secret. Without a new one, generates a random secret and returns it.
    pub(super) async fn set_secret(
        &mut self,
        name: String,
        secret: Option<String>,
    ) -> Outcome<Option<String>> {
        match self {
            Self::File(file) => {
                let secret = secret.as_deref().map(Secret::new);
                change(file, |acl| Ok(acl.set_secret(&name, secret, &file.key()?)?))
            }
            Self::Proxy(proxy) => Ok(proxy.set_user_secret(name, secret).await?),
        }
    }

    pub(super) async fn remove_user(&mut self, name: String) -> Outcome<()> {
        match self {
            Self::File(file) => change(file, |acl| Ok(acl.remove_user(&name)?)),
            Self::Proxy(proxy) => Ok(proxy.remove_user(name).await?),
        }
    }

    /// Adds a policy, and returns it with the number it was assigned.
    pub(super) async fn add_policy(&mut self, policy: PolicyEntry) -> Outcome<PolicyEntry> {
        match self {
            Self::File(file) => change(file, |acl| Ok(acl.add_policy(policy)?)),
            Self::Proxy(proxy) => Ok(proxy.add_policy(policy).await?),
        }
    }

    pub(super) async fn remove_policy(&mut self, number: u32) -> Outcome<()> {
        match self {
            Self::File(file) => change(file, |acl| Ok(acl.remove_policy(number).map(drop)?)),
            Self::Proxy(proxy) => Ok(proxy.remove_policy(number).await?),
        }
    }

    pub(super) async fn explain(&mut self, user: &str, query: &AccessQuery) -> Outcome<Explanation> {
        match self {
            Self::File(file) => Ok(file.explain(user, query)?),
            Self::Proxy(proxy) => Ok(proxy.explain_access(user.to_owned(), query).await?),
        }
    }
}

/// Reads the file, applies a change, and writes the result, under the file's lock.
fn change<T>(file: &AccessFile, change: impl FnOnce(&mut StoredAcl) -> Outcome<T>) -> Outcome<T> {
    let _lock = file.lock()?;
    let mut acl = if file.exists() { file.read()? } else { StoredAcl::default() };
    let changed = change(&mut acl)?;
    file.write(&acl)?;
    Ok(changed)
}
