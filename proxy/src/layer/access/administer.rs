//! What administrators see and change of users and policies.

use std::sync::Arc;

use super::policy::Decision;
use super::rules::Asked;
use super::seal::{Secret, SecretKey};
use super::tables::{Explanation, ListedUser, NewUser, PolicyEntry, Tables, UserUpdate};
use super::{AccessControl, Source};
use crate::error::{Error, ErrorKind};

impl AccessControl {
    /// The users and their policies, by name.
    ///
    /// # Errors
    /// `Internal` if their file can't be read, `NotImplemented` if brokers have them.
    pub async fn users(self: &Arc<Self>) -> Result<Vec<ListedUser>, Error> {
        self.tables().await.map(Tables::listed)
    }

    /// Whether the users are in the catalog of the embedded broker.
    #[must_use]
    pub fn has_catalog(&self) -> bool {
        matches!(self.source, Source::Catalog(_))
    }

    /// What is decided about a request, and why.
    ///
    /// # Errors
    /// `Internal` if the file can't be read.
    pub async fn explain(self: &Arc<Self>, user: &str, asked: Asked) -> Result<Explanation, Error> {
        let decide = || self.in_force.borrow().rules.explain(user, &asked);
        match &self.source {
            // As the file is now: it may have changed a moment ago.
            Source::File(file, _) => {
                let (file, user) = (file.clone(), user.to_owned());
                let explained = tokio::task::spawn_blocking(move || file.explain(&user, &asked)).await;
                explained.map_err(|error| internal(&error))?.map_err(|error| internal(&error))
            }
            Source::Catalog(catalog) => {
                let tables = catalog.tables.lock().await;
                Ok(Explanation::of(decide(), user, &tables.policies))
            }
            Source::Brokers(_) => {
                let decision = decide();
                let is_policy = matches!(decision, Ok(Some(Decision::Policy(..))));
                let explained = Explanation::of(decision, user, &[]);
                let why = "an ACL of the brokers decides".to_owned();
                Ok(if is_policy { Explanation { why, ..explained } } else { explained })
            }
        }
    }

    /// Adds a user. Returns the secret if it was made here.
    ///
    /// # Errors
    /// What [`Tables::add_user`] refuses, a certificate that another user has, `NotImplemented` if users are elsewhere, or the
    /// store's failure.
    pub async fn add_user(self: &Arc<Self>, new: NewUser) -> Result<Option<String>, Error> {
        self.change(move |tables, key| Ok((new.name.clone(), tables.add_user(new, key)?))).await
    }

    /// Changes a user.
    ///
    /// # Errors
    /// As [`Self::add_user`]; `UserNotFound`, or `BadRequest` if nobody could administer users any more.
    pub async fn update_user(self: &Arc<Self>, name: String, update: UserUpdate) -> Result<(), Error> {
        self.change(move |tables, key| tables.update_user(&name, update, key).map(|()| (name, ()))).await
    }

    /// Gives a user a new secret: this one, or a random one, which is returned.
    ///
    /// # Errors
    /// As [`Self::update_user`].
    pub async fn set_secret(
        self: &Arc<Self>,
        name: String,
        secret: Option<Secret>,
    ) -> Result<Option<String>, Error> {
        self.change(move |tables, key| {
            let told = tables.set_secret(&name, secret, key)?;
            Ok((name, told))
        })
        .await
    }

    /// Removes a user and their policies.
    ///
    /// # Errors
    /// As [`Self::update_user`].
    pub async fn remove_user(self: &Arc<Self>, name: String) -> Result<(), Error> {
        self.change(move |tables, _| tables.remove_user(&name).map(|()| (name, ()))).await
    }

    /// Adds a policy. Returns it with its number.
    ///
    /// # Errors
    /// What [`Tables::add_policy`] refuses, `NotImplemented` if policies are elsewhere, or the store's failure.
    pub async fn add_policy(self: &Arc<Self>, policy: PolicyEntry) -> Result<PolicyEntry, Error> {
        self.change(move |tables, _| tables.add_policy(policy).map(|added| (added.user.clone(), added))).await
    }

    /// Removes a policy by its number.
    ///
    /// # Errors
    /// `PolicyNotFound`, `NotImplemented` if policies are elsewhere, or the store's failure.
    pub async fn remove_policy(self: &Arc<Self>, number: u32) -> Result<(), Error> {
        self.change(move |tables, _| tables.remove_policy(number).map(|removed| (removed.user, ()))).await
    }

    /// Adds policies of a user, in place of the user's policies for the same resources.
    ///
    /// # Errors
    /// As [`Self::add_policy`].
    pub async fn put_policies(
        self: &Arc<Self>,
        user: String,
        policies: Vec<PolicyEntry>,
    ) -> Result<(), Error> {
        self.change(move |tables, _| tables.put_policies(policies).map(|()| (user, ()))).await
    }

    /// Removes a user's policies for a resource, or all of them.
    ///
    /// # Errors
    /// `PolicyNotFound` if there are none; `BadRequest` for what is no resource; as [`Self::add_policy`].
    pub async fn remove_policies(
        self: &Arc<Self>,
        user: String,
        resource: Option<String>,
    ) -> Result<(), Error> {
        self.change(move |tables, _| tables.remove_policies(&user, resource.as_deref()).map(|()| (user, ())))
            .await
    }

    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Tables, &SecretKey) -> Result<(String, T), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        // What is stored is put in force, also if the caller goes away meanwhile.
        let changed = tokio::spawn(async move {
            let elsewhere = match &this.source {
                Source::Catalog(catalog) => {
                    return catalog.change(change, |rules| this.put(Some(rules), Vec::new())).await;
                }
                Source::File(..) => {
                    "the users of this proxy are in a file (access.file); `user` and `acl` change it where it is, without --server"
                }
                Source::Brokers(_) => {
                    "the users are those of Apache's brokers (access.brokers): mqadmin changes them"
                }
            };
            Err(Error::new(ErrorKind::NotImplemented, elsewhere))
        });
        changed.await.map_err(|error| internal(&error))?
    }

    async fn tables(self: &Arc<Self>) -> Result<Tables, Error> {
        match &self.source {
            Source::File(file, _) => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || file.read()).await;
                read.map_err(|error| internal(&error))?.map_err(|error| internal(&error))
            }
            Source::Catalog(catalog) => Ok(catalog.tables.lock().await.clone()),
            Source::Brokers(_) => {
                let elsewhere = "the users are those of Apache's brokers: mqadmin lists them";
                Err(Error::new(ErrorKind::NotImplemented, elsewhere))
            }
        }
    }
}

fn internal(error: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::Internal, error.to_string())
}
