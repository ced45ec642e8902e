//! What JavaScript pulls from its client: requests for credentials, and records of the log.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, Error, Result, Status, ToNapiValue, Unknown};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, LogLevel, Queue};

use crate::completions::Completions;
use crate::handle::id;
use crate::input::Credentials;
use crate::outcome::answer;
use crate::output::LogRecord;

/// The requests of one client for credentials.
#[napi]
pub struct CredentialRequests {
    pub(crate) requests: bridge::CredentialRequests,
    queue: Arc<Queue>,
}

#[napi]
impl CredentialRequests {
    #[napi(constructor)]
    pub fn new(completions: &Completions) -> Result<Self> {
        let requests = bridge::CredentialRequests::new().map_err(reason)?;
        Ok(Self { requests, queue: Arc::clone(&completions.queue) })
    }

    #[napi]
    pub fn next(&self) -> Result<i64> {
        id(self.queue.submit(self.requests.next()))
    }

    #[napi]
    pub fn provide(&self, credentials: Credentials) -> Result<()> {
        self.requests.answer(Ok(credentials.try_into()?)).map_err(reason)
    }

    /// Reports why there are no credentials.
    #[napi]
    pub fn refuse(&self, why: String) -> Result<()> {
        self.requests.answer(Err(why)).map_err(reason)
    }
}

/// What the clients of this process report.
#[napi]
pub struct Logs {
    logs: bridge::Logs,
    queue: Arc<Queue>,
}

#[napi]
impl Logs {
    #[napi(constructor)]
    pub fn new(completions: &Completions, level: String) -> Result<Self> {
        let level = LogLevel::from_name(&level)
            .ok_or_else(|| Error::new(Status::InvalidArg, format!("{level} is not a level")))?;
        Ok(Self { logs: bridge::Logs::new(level).map_err(reason)?, queue: Arc::clone(&completions.queue) })
    }

    #[napi]
    pub fn arrived(&self) -> Result<i64> {
        id(self.queue.submit(self.logs.wait()))
    }

    #[napi]
    pub fn take<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        answer(env, self.logs.take(), |records| {
            records.into_iter().map(LogRecord::from).collect::<Vec<_>>().into_unknown(env)
        })
    }

    #[napi]
    pub fn close(&self) {
        self.logs.close();
    }
}

fn reason(error: bridge::Error) -> Error {
    Error::from_reason(error.to_string())
}
