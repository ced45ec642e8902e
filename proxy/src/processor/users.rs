//! Requests of administrators about users and policies.

use std::sync::Arc;

use super::Processor;
use crate::error::{Error, ErrorKind};
use crate::layer::{
    AccessControl, AccessQuery, Explanation, ListedUser, NewUser, PolicyEntry, Secret, UserUpdate,
};

/// Administration of access control. Without access control, all requests return `UserNotFound`.
impl Processor {
    /// The users and their policies, sorted by the user's name.
    ///
    /// # Errors
    /// As [`AccessControl::users`].
    pub async fn users(&self) -> Result<Vec<ListedUser>, Error> {
        self.access()?.users().await
    }

    /// Whether users are kept in the embedded broker's catalog, so that these requests can change them.
    #[must_use]
    pub fn has_users_in_catalog(&self) -> bool {
        self.layers.access().is_some_and(|access| access.has_catalog())
    }

    /// Whether access control allows a request, and which policy decides.
    ///
    /// # Errors
    /// As [`AccessControl::explain`].
    pub async fn explain_access(&self, user: &str, query: AccessQuery) -> Result<Explanation, Error> {
        self.access()?.explain(user, query).await
    }

    /// Adds a user. Returns the secret if it was generated.
    ///
    /// # Errors
    /// As [`AccessControl::add_user`].
    pub async fn add_user(&self, new: NewUser) -> Result<Option<String>, Error> {
        self.access()?.add_user(new).await
    }

    /// Changes a user.
    ///
    /// # Errors
    /// As [`AccessControl::update_user`].
    pub async fn update_user(&self, name: String, update: UserUpdate) -> Result<(), Error> {
        self.access()?.update_user(name, update).await
    }

    /// Sets the secret of a user. With `None`, generates a random secret and returns it.
    ///
    /// # Errors
    /// As [`AccessControl::set_secret`].
    pub async fn set_user_secret(
        &self,
        name: String,
        secret: Option<Secret>,
    ) -> Result<Option<String>, Error> {
        self.access()?.set_secret(name, secret).await
    }

    /// Removes a user and the user's policies.
    ///
    /// # Errors
    /// As [`AccessControl::remove_user`].
    pub async fn remove_user(&self, name: String) -> Result<(), Error> {
        self.access()?.remove_user(name).await
    }

    /// Adds a policy. Returns the policy with its number.
    ///
    /// # Errors
    /// As [`AccessControl::add_policy`].
    pub async fn add_policy(&self, policy: PolicyEntry) -> Result<PolicyEntry, Error> {
        self.access()?.add_policy(policy).await
    }

    /// Removes the policy with this number.
    ///
    /// # Errors
    /// As [`AccessControl::remove_policy`].
    pub async fn remove_policy(&self, number: u32) -> Result<(), Error> {
        self.access()?.remove_policy(number).await
    }

    /// Adds policies of a user. They replace the user's policies for the same resources.
    ///
    /// # Errors
    /// As [`AccessControl::put_policies`].
    pub async fn put_policies(&self, user: String, policies: Vec<PolicyEntry>) -> Result<(), Error> {
        self.access()?.put_policies(user, policies).await
    }

    /// Removes a user's policies for a resource, or all of them.
    ///
    /// # Errors
    /// As [`AccessControl::remove_policies`].
    pub async fn remove_policies(&self, user: String, resource: Option<String>) -> Result<(), Error> {
        self.access()?.remove_policies(user, resource).await
    }

    fn access(&self) -> Result<&Arc<AccessControl>, Error> {
        let text = "there are no users: without access control everybody may do everything";
        self.layers.access().ok_or_else(|| Error::new(ErrorKind::UserNotFound, text))
    }
}
