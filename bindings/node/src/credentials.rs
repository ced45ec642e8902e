//! Credentials that a JavaScript function provides.

use std::sync::Arc;

use napi::bindgen_prelude::Result;
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::completions::Completions;
use crate::input::Credentials;
use crate::outcome::{js_error, operation_id};

/// The credential requests of one client. JavaScript fetches and answers them.
#[napi]
pub struct CredentialRequests {
    pub(crate) requests: bridge::CredentialRequests,
    queue: Arc<Queue>,
}

#[napi]
impl CredentialRequests {
    #[napi(constructor)]
    pub fn new(completions: &Completions) -> Result<Self> {
        let requests = bridge::CredentialRequests::new().map_err(js_error)?;
        Ok(Self { requests, queue: Arc::clone(&completions.queue) })
    }

    #[napi]
    pub fn next(&self) -> Result<i64> {
        operation_id(self.queue.submit(self.requests.next()))
    }

    #[napi]
    pub fn provide(&self, credentials: Credentials) -> Result<()> {
        self.requests.answer(Ok(credentials.try_into()?)).map_err(js_error)
    }

    /// Answers with an error message instead of credentials.
    #[napi]
    pub fn refuse(&self, message: String) -> Result<()> {
        self.requests.answer(Err(message)).map_err(js_error)
    }
}
