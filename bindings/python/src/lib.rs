//! `rocketmq_thin._native`: converts between Python's values and the bridge's, and decides nothing.
//!
//! A method of a handle makes an [`Operation`](operation::Operation); [`run`](operation::run) waits for it
//! (the blocking face), [`Completions`](completions::Completions) resolves it later (the asyncio face).

mod completions;
mod error;
mod handle;
mod input;
mod operation;
mod output;
mod signal;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::completions::Completions;
    #[pymodule_export]
    use crate::handle::{Client, Producer, SimpleConsumer, connect};
    #[pymodule_export]
    use crate::operation::{Operation, run, shutdown};
    #[pymodule_export]
    use crate::output::Delivery;
}
