//! `rocketmq_thin._native`: converts between Python's values and the bridge's.
//!
//! A method of a handle makes an [`Operation`](operation::Operation). The blocking API waits for it with
//! [`run`](blocking::run), the asyncio API submits it to [`Completions`](completions::Completions).

mod blocking;
mod completions;
mod consumer;
mod error;
mod exit;
mod handle;
mod input;
mod operation;
mod options;
mod outcome;
mod output;
mod pulled;
mod push;
mod transaction;
mod wake_fd;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::blocking::run;
    #[pymodule_export]
    use crate::completions::Completions;
    #[pymodule_export]
    use crate::consumer::{LiteRevocations, Messages, SimpleConsumer};
    #[pymodule_export]
    use crate::exit::shutdown;
    #[pymodule_export]
    use crate::handle::{Client, Producer, StatusChanges, connect};
    #[pymodule_export]
    use crate::operation::Operation;
    #[pymodule_export]
    use crate::output::Delivery;
    #[pymodule_export]
    use crate::pulled::{CredentialRequests, Logs};
    #[pymodule_export]
    use crate::push::{PushConsumer, Task};
    #[pymodule_export]
    use crate::transaction::{OrphanCheck, OrphanChecks, Transaction};
}
