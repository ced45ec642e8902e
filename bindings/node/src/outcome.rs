//! The conversion of outcomes and errors to JavaScript.

use std::sync::Arc;

use napi::JsError;
use napi::bindgen_prelude::{Env, Error, Null, Result, ToNapiValue, Unknown};
use rocketmq_thin_bridge::{self as bridge, Outcome, Queue};

use crate::client::Client;
use crate::consumer::{Leases, SimpleConsumer};
use crate::output::{CloseReport, Delivery, Failure, Health, Receipt};
use crate::producer::Producer;
use crate::push::{PushConsumer, Tasks};
use crate::transaction::OrphanCheck;

/// Whether an operation failed, and its value or failure.
pub(crate) type Tagged<'env> = [Unknown<'env>; 2];

/// Converts an error that is not the failure of an operation.
pub(crate) fn js_error(error: bridge::Error) -> Error {
    Error::from_reason(error.to_string())
}

/// Returns the id of a submitted operation for JavaScript, whose numbers are exact up to 2^53.
pub(crate) fn operation_id(submitted: std::result::Result<u64, bridge::Error>) -> Result<i64> {
    submitted.map(u64::cast_signed).map_err(js_error)
}

/// Converts an operation id to a JavaScript number.
pub(crate) fn id_number(env: &Env, id: u64) -> Result<Unknown<'_>> {
    id.cast_signed().into_unknown(env)
}

/// Converts an outcome. If the conversion fails, the operation fails with an `Error`, and other operations
/// are not affected.
pub(crate) fn tagged<'env>(env: &'env Env, queue: &Arc<Queue>, outcome: Outcome) -> Result<Tagged<'env>> {
    match convert(env, queue, outcome) {
        Ok(tagged) => Ok(tagged),
        Err(error) => Ok([true.into_unknown(env)?, JsError::from(error).into_unknown(*env)]),
    }
}

fn convert<'env>(env: &'env Env, queue: &Arc<Queue>, outcome: Outcome) -> Result<Tagged<'env>> {
    let queue = || Arc::clone(queue);
    let value = match outcome {
        Outcome::Client(client) => Client { client, queue: queue() }.into_unknown(env)?,
        Outcome::Producer(producer) => Producer { producer, queue: queue() }.into_unknown(env)?,
        Outcome::SimpleConsumer(consumer) => SimpleConsumer { consumer, queue: queue() }.into_unknown(env)?,
        Outcome::PushConsumer(consumer) => PushConsumer { consumer, queue: queue() }.into_unknown(env)?,
        Outcome::Receipt(receipt) => Receipt::from(receipt).into_unknown(env)?,
        Outcome::Receipts(results) => {
            flat_results(env, results, |receipt| Receipt::from(receipt).into_unknown(env))?
        }
        Outcome::Deliveries(deliveries) => deliveries_and_leases(env, deliveries.take())?,
        Outcome::Tasks(tasks) => deliveries_and_tasks(env, tasks.take(), queue())?,
        Outcome::OrphanCheck(check) => OrphanCheck { check: *check, queue: queue() }.into_unknown(env)?,
        Outcome::Health(health) => Health::from(health).into_unknown(env)?,
        Outcome::Text(text) => text.into_unknown(env)?,
        Outcome::End => Null.into_unknown(env)?,
        Outcome::Done => ().into_unknown(env)?,
        Outcome::Settled(results) => flat_results(env, results, |()| ().into_unknown(env))?,
        Outcome::Closed(report) => CloseReport::from(report).into_unknown(env)?,
        Outcome::Failed(error) => return failure(env, error),
    };
    Ok([false.into_unknown(env)?, value])
}

fn failure(env: &Env, error: bridge::Error) -> Result<Tagged<'_>> {
    Ok([true.into_unknown(env)?, Failure::from(error).into_unknown(env)?])
}

/// Converts the result of a function that does not wait.
pub(crate) fn tagged_result<'env, T>(
    env: &'env Env,
    result: std::result::Result<T, bridge::Error>,
    convert: impl FnOnce(T) -> Result<Unknown<'env>>,
) -> Result<Vec<Unknown<'env>>> {
    let tagged = match result {
        Ok(value) => [false.into_unknown(env)?, convert(value)?],
        Err(error) => failure(env, error)?,
    };
    Ok(tagged.into())
}

/// Returns a flat list with two entries for each result: whether it failed, and the value or failure.
fn flat_results<'env, T>(
    env: &'env Env,
    results: Vec<std::result::Result<T, bridge::Error>>,
    convert: impl Fn(T) -> Result<Unknown<'env>>,
) -> Result<Unknown<'env>> {
    let mut flat = Vec::with_capacity(results.len() * 2);
    for result in results {
        flat.extend(match result {
            Ok(value) => [false.into_unknown(env)?, convert(value)?],
            Err(error) => failure(env, error)?,
        });
    }
    flat.into_unknown(env)
}

/// Returns a list of the deliveries. Its last entry is their leases.
fn deliveries_and_leases(env: &Env, mut deliveries: Vec<bridge::Delivery>) -> Result<Unknown<'_>> {
    let mut list = delivery_objects(env, deliveries.iter_mut())?;
    list.push(Leases(deliveries).into_unknown(env)?);
    list.into_unknown(env)
}

/// Returns a list of the deliveries. Its last entries are their leases and their tasks.
fn deliveries_and_tasks(env: &Env, tasks: Vec<bridge::Task>, queue: Arc<Queue>) -> Result<Unknown<'_>> {
    // Cloned, because a task that is put back needs its contents.
    let mut deliveries: Vec<_> = tasks.iter().filter_map(|task| Some(task.get()?.delivery.clone())).collect();
    // If the conversion fails, the tasks are put back.
    let tasks = Tasks::new(tasks, queue);
    let mut list = delivery_objects(env, deliveries.iter_mut())?;
    list.push(Leases(deliveries).into_unknown(env)?);
    list.push(tasks.into_unknown(env)?);
    list.into_unknown(env)
}

fn delivery_objects<'env, 'a>(
    env: &'env Env,
    deliveries: impl Iterator<Item = &'a mut bridge::Delivery>,
) -> Result<Vec<Unknown<'env>>> {
    deliveries.map(|delivery| Delivery::take_from(env, delivery)?.into_unknown(env)).collect()
}
