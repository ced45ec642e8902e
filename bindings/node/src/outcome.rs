use std::sync::Arc;

use napi::JsError;
use napi::bindgen_prelude::{Env, Result, ToNapiValue, Unknown};
use rocketmq_thin_bridge::{self as bridge, Outcome, Queue};

use crate::handle::{Client, Leases, Producer, SimpleConsumer};
use crate::output::{CloseReport, Delivery, Failure, Receipt};

/// Whether the operation failed, and the value or failure.
type Tagged<'env> = [Unknown<'env>; 2];

/// An id as a JavaScript number.
pub(crate) fn number(env: &Env, id: u64) -> Result<Unknown<'_>> {
    id.cast_signed().into_unknown(env)
}

/// The JavaScript value of an outcome. If it cannot be converted, this operation fails with an `Error`, and
/// others are not affected.
pub(crate) fn value<'env>(env: &'env Env, queue: &Arc<Queue>, outcome: Outcome) -> Result<Tagged<'env>> {
    match converted(env, queue, outcome) {
        Ok(tagged) => Ok(tagged),
        Err(error) => Ok([true.into_unknown(env)?, JsError::from(error).into_unknown(*env)]),
    }
}

fn converted<'env>(env: &'env Env, queue: &Arc<Queue>, outcome: Outcome) -> Result<Tagged<'env>> {
    let queue = || Arc::clone(queue);
    let value = match outcome {
        Outcome::Client(client) => Client { client, queue: queue() }.into_unknown(env)?,
        Outcome::Producer(producer) => Producer { producer, queue: queue() }.into_unknown(env)?,
        Outcome::SimpleConsumer(consumer) => SimpleConsumer { consumer, queue: queue() }.into_unknown(env)?,
        Outcome::Receipt(receipt) => Receipt::from(receipt).into_unknown(env)?,
        Outcome::Receipts(results) => each(env, results, |receipt| Receipt::from(receipt).into_unknown(env))?,
        Outcome::Deliveries(deliveries) => deliveries_and_leases(env, deliveries.take())?,
        Outcome::Done => ().into_unknown(env)?,
        Outcome::Settled(results) => each(env, results, |()| ().into_unknown(env))?,
        Outcome::Closed(report) => CloseReport::from(report).into_unknown(env)?,
        Outcome::Failed(error) => return failure(env, error),
        _ => return Err(napi::Error::from_reason("this outcome is not expected")),
    };
    Ok([false.into_unknown(env)?, value])
}

fn failure(env: &Env, error: bridge::Error) -> Result<Tagged<'_>> {
    Ok([true.into_unknown(env)?, Failure::from(error).into_unknown(env)?])
}

/// A flat list with two entries for each result: whether it failed, and the value or failure.
fn each<'env, T>(
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

/// A list of the deliveries, and their leases as its last entry.
fn deliveries_and_leases(env: &Env, mut deliveries: Vec<bridge::Delivery>) -> Result<Unknown<'_>> {
    let mut list = Vec::with_capacity(deliveries.len() + 1);
    for delivery in &mut deliveries {
        list.push(Delivery::taken(env, delivery)?.into_unknown(env)?);
    }
    list.push(Leases(deliveries).into_unknown(env)?);
    list.into_unknown(env)
}
