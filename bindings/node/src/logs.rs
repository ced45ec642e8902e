//! Log records of the clients, for a logger of the application.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, Error, Result, Status, ToNapiValue, Unknown};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, LogLevel, Queue};

use crate::completions::Completions;
use crate::outcome::{js_error, operation_id, tagged_result};
use crate::output::LogRecord;

/// The log records of the clients of this process.
#[napi]
pub struct Logs {
    logs: bridge::Logs,
    queue: Arc<Queue>,
}

#[napi]
impl Logs {
    #[napi(constructor)]
    pub fn new(completions: &Completions, level: String) -> Result<Self> {
        let level = LogLevel::from_name(&level).ok_or_else(|| {
            Error::new(
                Status::InvalidArg,
                format!("the log level must be error, warn, info or debug, not {level:?}"),
            )
        })?;
        Ok(Self { logs: bridge::Logs::new(level).map_err(js_error)?, queue: Arc::clone(&completions.queue) })
    }

    #[napi]
    pub fn wait(&self) -> Result<i64> {
        operation_id(self.queue.submit(self.logs.wait()))
    }

    #[napi]
    pub fn take<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        tagged_result(env, self.logs.take(), |records| {
            records.into_iter().map(LogRecord::from).collect::<Vec<_>>().into_unknown(env)
        })
    }

    #[napi]
    pub fn close(&self) {
        self.logs.close();
    }
}
