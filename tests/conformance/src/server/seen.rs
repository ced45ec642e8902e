//! The calls that a scripted server has seen.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha1::Sha1;
use tokio::sync::watch;

use crate::{
    case::{Sighting, Signer},
    pattern,
};

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The RPC, or `Settings`, `Reply` (both on a telemetry stream), `Cancelled` or `Connection`.
    pub rpc: &'static str,
    /// Its headers, as far as they are text.
    pub metadata: BTreeMap<String, String>,
    /// The request as protobuf JSON.
    pub request: Value,
}

/// Every call so far, in order of arrival.
#[derive(Debug)]
pub struct Seen {
    calls: Mutex<Vec<Call>>,
    changed: watch::Sender<usize>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { calls: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Seen {
    /// Adds a call; returns its number among the calls of its RPC, counted from 1.
    pub(super) fn add(&self, call: Call) -> usize {
        let mut calls = self.lock();
        let rpc = call.rpc;
        calls.push(call);
        let number = calls.iter().filter(|call| call.rpc == rpc).count();
        self.changed.send_replace(calls.len());
        number
    }

    /// Returns as soon as enough calls fit.
    pub async fn wait(&self, wanted: &Sighting) {
        let ordered = wanted.order.as_ref().map(Vec::len);
        let enough = wanted.at_least.or(wanted.count).or(ordered).unwrap_or(1);
        let mut changed = self.changed.subscribe();
        while self.fitting(wanted).len() < enough {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Compares what was seen with what a case expects.
    ///
    /// # Errors
    /// What differs, followed by the calls that were counted.
    pub fn check(&self, wanted: &Sighting) -> Result<(), String> {
        let calls = self.fitting(wanted);
        let number = calls.len();
        let counted = wanted.count.is_none_or(|count| number == count)
            && wanted.at_least.is_none_or(|least| number >= least)
            && wanted.at_most.is_none_or(|most| number <= most);
        if !counted {
            return Err(format!("{number} calls of {} fit; all calls: {}", wanted.rpc, self.summary()));
        }
        if let Some(order) = &wanted.order {
            let requests = Value::Array(calls.iter().map(|call| call.request.clone()).collect());
            pattern::check(&Value::Array(order.clone()), &requests).map_err(|why| {
                format!("{}: {why}\n  the calls: {}", wanted.rpc, pattern::shortened(&requests))
            })?;
        }
        for call in &calls {
            headers(wanted, call)?;
        }
        match &wanted.same {
            Some(field) if calls.iter().any(|call| call.request[field] != calls[0].request[field]) => {
                Err(format!("{field} differs among the calls of {}", wanted.rpc))
            }
            _ => Ok(()),
        }
    }

    /// The number of calls by RPC, for reports.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut numbers = BTreeMap::<_, usize>::new();
        for call in self.lock().iter() {
            *numbers.entry(call.rpc).or_default() += 1;
        }
        let shown: Vec<String> = numbers.iter().map(|(rpc, number)| format!("{number} {rpc}")).collect();
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
    }

    fn fitting(&self, wanted: &Sighting) -> Vec<Call> {
        let fits = |call: &&Call| {
            (wanted.rpc == call.rpc || (wanted.rpc == "*" && call.rpc != "Connection"))
                && wanted
                    .request
                    .as_ref()
                    .is_none_or(|request| pattern::check(request, &call.request).is_ok())
        };
        self.lock().iter().filter(fits).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn headers(wanted: &Sighting, call: &Call) -> Result<(), String> {
    for (name, value) in &wanted.metadata {
        let seen = call.metadata.get(name).map_or(Value::Null, |text| Value::String(text.clone()));
        pattern::check(value, &seen).map_err(|why| format!("{}: header {name}: {why}", call.rpc))?;
    }
    match &wanted.signed_by {
        Some(signer) => signature(signer, call),
        None => Ok(()),
    }
}

/// The signature is the HMAC-SHA1 of the date header, in hex.
fn signature(signer: &Signer, call: &Call) -> Result<(), String> {
    let header = |name: &str| {
        call.metadata.get(name).cloned().ok_or_else(|| format!("{}: no header {name}", call.rpc))
    };
    let (authorization, date) = (header("authorization")?, header("x-mq-date-time")?);
    let mut mac =
        Hmac::<Sha1>::new_from_slice(signer.secret_key.as_bytes()).map_err(|error| error.to_string())?;
    mac.update(date.as_bytes());
    let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let credential = authorization.contains(&format!("Credential={}", signer.access_key));
    let signed = authorization.to_ascii_lowercase().contains(&format!("signature={expected}"));
    if authorization.starts_with("MQv2-HMAC-SHA1 ") && credential && signed {
        return Ok(());
    }
    Err(format!("{}: the signature is not that of {}: {authorization}", call.rpc, signer.access_key))
}
