//! Administration of users and policies: listing, explaining and changing them.

use std::sync::Arc;

use super::acl_index::AccessQuery;
use super::policy::PolicyDecision;
use super::secret_encryption::{Secret, SecretKey};
use super::stored_acl::{Explanation, ListedUser, NewUser, PolicyEntry, StoredAcl, UserUpdate};
use super::{AccessControl, UserSource};
use crate::error::{Error, ErrorKind};

impl AccessControl {
    /// Lists the users with their policies, sorted by name.
    ///
    /// # Errors
    /// `Internal` if the file can't be read, `NotImplemented` if the users are those of brokers.
    pub async fn users(self: &Arc<Self>) -> Result<Vec<ListedUser>, Error> {
        self.acl().await.map(StoredAcl::into_list)
    }

    /// Whether the users are in the catalog of the embedded broker.
    #[must_use]
    pub fn has_catalog(&self) -> bool {
        matches!(self.source, UserSource::Catalog(_))
    }

    /// Explains which decision a request would get, and why.
    ///
    /// # Errors
    /// `Internal` if the file can't be read.
    pub async fn explain(self: &Arc<Self>, user: &str, query: AccessQuery) -> Result<Explanation, Error> {
        match &self.source {
            // Read again, because a change may not be in force yet.
            UserSource::File(file, _) => {
                let (file, user) = (file.clone(), user.to_owned());
                let explained = tokio::task::spawn_blocking(move || file.explain(&user, &query)).await;
                explained.map_err(|error| internal(&error))?.map_err(|error| internal(&error))
            }
            UserSource::Catalog(catalog) => {
                let acl = catalog.acl.lock().await;
                let decision = self.in_force.borrow().acl_index.explain(user, &query);
                Ok(Explanation::of(decision, user, &acl.policies))
            }
            UserSource::Brokers(_) => {
                let acl_index = self.in_force.borrow().acl_index.clone();
                let decision = acl_index.explain(user, &query);
                let is_policy = matches!(decision, Ok(Some(PolicyDecision::Policy(..))));
                let explained = Explanation::of(decision, user, &acl_index.broker_policies);
                let why = "this ACL of the brokers decides".to_owned();
                Ok(if is_policy { Explanation { why, ..explained } } else { explained })
            }
        }
    }

    /// Adds a user. Returns the secret if it was generated here.
    ///
    /// # Errors
    /// The errors of [`StoredAcl::add_user`], `BadRequest` if another user has one of the certificates, `NotImplemented` if users
    /// are not in the catalog, or a failure of the store.
    pub async fn add_user(self: &Arc<Self>, new: NewUser) -> Result<Option<String>, Error> {
        self.change(move |acl, key| Ok((new.name.clone(), acl.add_user(new, key)?))).await
    }

    /// Changes a user.
    ///
    /// # Errors
    /// As [`Self::add_user`]; `UserNotFound`, or `BadRequest` if no enabled super user would remain.
    pub async fn update_user(self: &Arc<Self>, name: String, update: UserUpdate) -> Result<(), Error> {
        self.change(move |acl, key| acl.update_user(&name, update, key).map(|()| (name, ()))).await
    }

    /// Replaces a user's secret. Without a new one, generates a random secret and returns it.
    ///
    /// # Errors
    /// As [`Self::update_user`].
    pub async fn set_secret(
        self: &Arc<Self>,
        name: String,
        secret: Option<Secret>,
    ) -> Result<Option<String>, Error> {
        self.change(move |acl, key| {
            let generated = acl.set_secret(&name, secret, key)?;
            Ok((name, generated))
        })
        .await
    }

    /// Removes a user and their policies.
    ///
    /// # Errors
    /// As [`Self::update_user`].
    pub async fn remove_user(self: &Arc<Self>, name: String) -> Result<(), Error> {
        self.change(move |acl, _| acl.remove_user(&name).map(|()| (name, ()))).await
    }

    /// Adds a policy, and returns it with its number.
    ///
    /// # Errors
    /// The errors of [`StoredAcl::add_policy`], `NotImplemented` if policies are not in the catalog, or a failure of the store.
    pub async fn add_policy(self: &Arc<Self>, policy: PolicyEntry) -> Result<PolicyEntry, Error> {
        self.change(move |acl, _| acl.add_policy(policy).map(|added| (added.user.clone(), added))).await
    }

    /// Removes a policy by its number.
    ///
    /// # Errors
    /// `PolicyNotFound`, `NotImplemented` if policies are not in the catalog, or a failure of the store.
    pub async fn remove_policy(self: &Arc<Self>, number: u32) -> Result<(), Error> {
        self.change(move |acl, _| acl.remove_policy(number).map(|removed| (removed.user, ()))).await
    }

    /// Adds policies of a user, which replace the user's policies for the same resources.
    ///
    /// # Errors
    /// As [`Self::add_policy`].
    pub async fn put_policies(
        self: &Arc<Self>,
        user: String,
        policies: Vec<PolicyEntry>,
    ) -> Result<(), Error> {
        self.change(move |acl, _| acl.put_policies(policies).map(|()| (user, ()))).await
    }

    /// Removes a user's policies for a resource, or all of them.
    ///
    /// # Errors
    /// `PolicyNotFound` if there are none; `BadRequest` if the resource is invalid; as [`Self::add_policy`].
    pub async fn remove_policies(
        self: &Arc<Self>,
        user: String,
        resource: Option<String>,
    ) -> Result<(), Error> {
        self.change(move |acl, _| acl.remove_policies(&user, resource.as_deref()).map(|()| (user, ()))).await
    }

    /// Applies a change to the catalog. `change` returns the name of the changed user.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut StoredAcl, &SecretKey) -> Result<(String, T), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        // Spawned, so that a stored change is put in force even if the caller is cancelled.
        let changed = tokio::spawn(async move {
            let unsupported = match &this.source {
                UserSource::Catalog(catalog) => {
                    return catalog
                        .change(change, |acl_index| this.put_in_force(Some(acl_index), Vec::new()))
                        .await;
                }
                UserSource::File(..) => {
                    "the users of this proxy are in a file (access.file): change it on its machine with `user` and `acl`, without --server"
                }
                UserSource::Brokers(_) => {
                    "the users are those of Apache's brokers (access.brokers): change them with mqadmin"
                }
            };
            Err(Error::new(ErrorKind::NotImplemented, unsupported))
        });
        changed.await.map_err(|error| internal(&error))?
    }

    /// The users and policies, of a file or of the catalog.
    async fn acl(self: &Arc<Self>) -> Result<StoredAcl, Error> {
        match &self.source {
            UserSource::File(file, _) => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || file.read()).await;
                read.map_err(|error| internal(&error))?.map_err(|error| internal(&error))
            }
            UserSource::Catalog(catalog) => Ok(catalog.acl.lock().await.clone()),
            UserSource::Brokers(_) => {
                let unsupported = "the users are those of Apache's brokers: list them with mqadmin";
                Err(Error::new(ErrorKind::NotImplemented, unsupported))
            }
        }
    }
}

fn internal(error: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::Internal, error.to_string())
}
