//! `rocketmq_thin._native`, the native part of the Python package. It converts between Python's values and
//! the bridge's.
//!
//! Most methods create an [`Operation`](operation::Operation). The blocking API waits for it with
//! [`run`](blocking::run), the asyncio API submits it to [`Completions`](completions::Completions).

mod blocking;
mod client;
mod completions;
mod consumer;
mod credentials;
mod error;
mod exit;
mod input;
mod logs;
mod operation;
mod options;
mod outcome;
mod output;
mod producer;
mod push;
mod transaction;
mod wake_fd;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::blocking::run;
    #[pymodule_export]
    use crate::client::{Client, StatusChanges, connect};
    #[pymodule_export]
    use crate::completions::Completions;
    #[pymodule_export]
    use crate::consumer::{LiteRevocations, Messages, SimpleConsumer};
    #[pymodule_export]
    use crate::credentials::CredentialRequests;
    #[pymodule_export]
    use crate::exit::shutdown;
    #[pymodule_export]
    use crate::logs::Logs;
    #[pymodule_export]
    use crate::operation::Operation;
    #[pymodule_export]
    use crate::output::Delivery;
    #[pymodule_export]
    use crate::producer::Producer;
    #[pymodule_export]
    use crate::push::{PushConsumer, Task};
    #[pymodule_export]
    use crate::transaction::{OrphanCheck, OrphanChecks, Transaction};
}
