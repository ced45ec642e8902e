//! The users of access control in the catalog. The catalog does not interpret their records.

use fjall::PersistMode;

use super::catalog::Catalog;
use super::catalog_keys::{USER, named_key};
use crate::service::{ServiceError, StoredUser};

impl Catalog {
    /// All users, sorted by name.
    pub(super) fn users(&self) -> Vec<StoredUser> {
        let users = self.users.lock();
        let user =
            |(name, record): (&String, &Vec<u8>)| StoredUser { name: name.clone(), record: record.clone() };
        users.iter().map(user).collect()
    }

    /// Adds or changes a user. Blocks until the change is written.
    pub(super) fn put_user(&self, user: StoredUser) -> Result<(), ServiceError> {
        // `ids` also serializes changes of the catalog.
        let _one_at_a_time = self.ids.lock();
        let StoredUser { name, record } = user;
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        batch.insert(&state, named_key(USER, &name), record.clone());
        self.store.commit_catalog(batch)?;
        self.users.lock().insert(name, record);
        Ok(())
    }

    /// Removes the user with this name, if there is one. Blocks until the change is written.
    pub(super) fn remove_user(&self, name: &str) -> Result<(), ServiceError> {
        // `ids` also serializes changes of the catalog.
        let _one_at_a_time = self.ids.lock();
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        batch.remove(&state, named_key(USER, name));
        self.store.commit_catalog(batch)?;
        self.users.lock().remove(name);
        Ok(())
    }
}
