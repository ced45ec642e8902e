//! The queue of one JavaScript environment: it wakes JavaScript, which drains outcomes in batches.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, Function, Result, Status, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{check_status, sys};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::credentials::CredentialRequests;
use crate::input::ClientOptions;
use crate::outcome::{self, js_error, operation_id};

/// A function that wakes JavaScript. The reference to it is weak, so that it does not keep the process
/// running.
type WakeFunction = ThreadsafeFunction<(), (), (), Status, false, true>;

/// The operations of one JavaScript environment, which is the main thread or a worker.
#[napi]
pub struct Completions {
    pub(crate) queue: Arc<Queue>,
    wake: Arc<WakeFunction>,
}

#[napi]
impl Completions {
    /// `wake` is called when there are outcomes to drain.
    #[napi(constructor)]
    pub fn new(wake: Function<'_, (), ()>) -> Result<Self> {
        let wake: Arc<WakeFunction> = Arc::new(
            wake.build_threadsafe_function::<()>().weak::<true>().callee_handled::<false>().build()?,
        );
        let waker = Arc::clone(&wake);
        let queue = Queue::new(move || {
            // Fails only if the environment is ending. Then no promise waits for an outcome.
            waker.call((), ThreadsafeFunctionCallMode::NonBlocking);
        });
        Ok(Self { queue: queue.map_err(js_error)?, wake })
    }

    /// Keeps the process running while operations are in progress.
    #[napi]
    pub fn hold(&self, env: Env) -> Result<()> {
        // SAFETY: this is the thread of `env`, which created the function, and `self` holds the function.
        #[allow(unsafe_code)]
        let status = unsafe { sys::napi_ref_threadsafe_function(env.raw(), self.wake.raw()) };
        check_status!(status)
    }

    /// Lets the process end when no operation is in progress.
    #[napi]
    pub fn release(&self, env: Env) -> Result<()> {
        // SAFETY: as in `hold`.
        #[allow(unsafe_code)]
        let status = unsafe { sys::napi_unref_threadsafe_function(env.raw(), self.wake.raw()) };
        check_status!(status)
    }

    /// Connects a client. With `requests`, the client sends its credential requests there.
    #[napi]
    pub fn connect(&self, options: ClientOptions, requests: Option<&CredentialRequests>) -> Result<i64> {
        let options = options.try_into()?;
        let options = match requests {
            Some(CredentialRequests { requests, .. }) => requests.provide_for(options),
            None => Ok(options),
        };
        operation_id(options.and_then(bridge::connect).and_then(|connect| self.queue.submit(connect)))
    }

    #[napi]
    pub fn cancel(&self, id: i64) {
        self.queue.cancel(id.unsigned_abs());
    }

    /// Takes up to `max` outcomes, as a flat list with three entries for each: the operation id, whether the
    /// operation failed, and its value or failure. If outcomes are left, `wake` is called again.
    #[napi]
    pub fn drain<'env>(&self, env: &'env Env, max: u32) -> Result<Vec<Unknown<'env>>> {
        let outcomes = self.queue.drain(max as usize);
        let mut flat = Vec::with_capacity(outcomes.len() * 3);
        for (id, outcome) in outcomes {
            flat.push(outcome::id_number(env, id)?);
            flat.extend(outcome::tagged(env, &self.queue, outcome)?);
        }
        Ok(flat)
    }
}
