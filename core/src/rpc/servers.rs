//! The servers of one client.

use std::sync::Arc;

use super::{Link, Pool};
use crate::{
    error::Error,
    options::{ClientOptions, Endpoints},
};

/// The addresses of a client's servers, the connections to them, and the client's options.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) pool: Pool,
    /// The addresses that the user gave.
    pub(crate) access: Endpoints,
    pub(crate) options: ClientOptions,
}

impl Servers {
    /// The best of the addresses that the user gave.
    pub(crate) fn pick_access(&self) -> Result<Arc<Link>, Error> {
        self.pool.pick(&self.access)
    }

    /// Whether the user gave the address.
    pub(crate) fn is_access(&self, link: &Link) -> bool {
        self.access.addresses().contains(link.address())
    }
}
