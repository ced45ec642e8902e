//! The users of access control in the catalog: a record each, which is not looked into here.

use fjall::PersistMode;

use super::catalog::{Catalog, named};
use crate::service::{ServiceError, StoredUser};

/// The kind of these records.
pub(super) const KIND: u8 = b'u';

impl Catalog {
    /// All users, by name.
    pub(super) fn users(&self) -> Vec<StoredUser> {
        let users = self.users.lock();
        let user =
            |(name, record): (&String, &Vec<u8>)| StoredUser { name: name.clone(), record: record.clone() };
        users.iter().map(user).collect()
    }

    /// Adds or changes a user. Writes to the disk.
    pub(super) fn put_user(&self, user: StoredUser) -> Result<(), ServiceError> {
        let _one_at_a_time = self.one_at_a_time();
        let StoredUser { name, record } = user;
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        batch.insert(&state, named(KIND, &name), record.clone());
        self.store.commit_catalog(batch)?;
        self.users.lock().insert(name, record);
        Ok(())
    }

    /// Removes a user, if there is one of this name. Writes to the disk.
    pub(super) fn remove_user(&self, name: &str) -> Result<(), ServiceError> {
        let _one_at_a_time = self.one_at_a_time();
        let state = self.store.state()?;
        let mut batch = state.batch(PersistMode::Buffer);
        batch.remove(&state, named(KIND, name));
        self.store.commit_catalog(batch)?;
        self.users.lock().remove(name);
        Ok(())
    }
}
