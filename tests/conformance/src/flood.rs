//! Many messages through a proxy that is killed in between: none that was acknowledged may be missing.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{
    case::{Drain, Flood},
    driver::Driver,
    pattern::shortened,
    proxy::Proxy,
};

/// Rounds in a row without any progress after which a flood or drain has failed.
const PATIENCE: u32 = 12;

/// Messages of one receive.
const BATCH: usize = 32;

/// Lease of a drained message: what a killed proxy had handed out comes back this much later.
const INVISIBLE_MS: u32 = 10_000;

/// Long poll of one receive.
const AWAIT_MS: u32 = 5_000;

/// The numbers of the messages that were acknowledged and those that have arrived.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    acknowledged: BTreeSet<u32>,
    arrived: BTreeSet<u32>,
    size: usize,
}

type Running = Arc<Mutex<Proxy>>;

impl Ledger {
    /// Sends until `flood.count` messages are acknowledged. What fails with a retryable error is sent again, as
    /// an application would.
    pub(crate) async fn flood(&mut self, driver: &Driver, flood: &Flood, proxy: Running) -> Result<()> {
        self.size = flood.size;
        let mut kill = Kill::new(flood.kill_at, proxy);
        let mut left: Vec<u32> = (0..flood.count).rev().collect();
        let mut stalled = 0;
        while !left.is_empty() {
            let chunk = left.split_off(left.len().saturating_sub(flood.chunk));
            let messages: Vec<Value> = chunk
                .iter()
                .map(|number| json!({"topic": flood.topic, "body": BASE64_STANDARD.encode(body(*number, flood.size))}))
                .collect();
            let fields = object(json!({"producer": flood.producer, "messages": messages}));
            let pending = driver.request("send_all", fields).await?;
            kill.when(self.acknowledged.len());
            let reply =
                pending.reply().await?.map_err(|error| anyhow::anyhow!("send_all failed: {error}"))?;
            let results = reply["results"].as_array().context("no results")?;
            ensure!(results.len() == chunk.len(), "{} results for {} messages", results.len(), chunk.len());
            let before = self.acknowledged.len();
            for (number, result) in chunk.iter().zip(results) {
                match result.get("error") {
                    None => drop(self.acknowledged.insert(*number)),
                    Some(error) => {
                        ensure!(error["retryable"] == true, "a send failed for good: {}", shortened(error));
                        left.push(*number);
                    }
                }
            }
            stalled = if self.acknowledged.len() > before { 0 } else { stalled + 1 };
            ensure!(stalled < PATIENCE, "no send succeeds any more: {}", shortened(&reply));
        }
        kill.finish().await
    }

    /// Receives and acks until every acknowledged message has arrived.
    pub(crate) async fn drain(&mut self, driver: &Driver, drain: &Drain, proxy: Running) -> Result<()> {
        let mut kill = Kill::new(drain.kill_at, proxy);
        let mut stalled = 0;
        while !self.acknowledged.is_subset(&self.arrived) {
            let receive = json!({"consumer": drain.consumer, "max_messages": BATCH, "invisible_ms": INVISIBLE_MS,
                "await_ms": AWAIT_MS});
            let pending = driver.request("receive", object(receive)).await?;
            kill.when(self.arrived.len());
            let before = self.arrived.len();
            // An error is a receive to be repeated; what it might have brought comes again.
            let last = match pending.reply().await? {
                Ok(reply) => {
                    let deliveries = self.check_in(&reply)?;
                    let last = format!("brought {} messages", deliveries.len());
                    if !deliveries.is_empty() {
                        let ack = json!({"consumer": drain.consumer, "deliveries": deliveries});
                        let _ = driver.request("ack_all", object(ack)).await?.reply().await?;
                    }
                    last
                }
                Err(error) => format!("failed: {}", shortened(&error)),
            };
            stalled = if self.arrived.len() > before { 0 } else { stalled + 1 };
            ensure!(
                stalled < PATIENCE,
                "{} of {} acknowledged messages never came, such as number {:?}; the last receive {last}",
                self.acknowledged.difference(&self.arrived).count(),
                self.acknowledged.len(),
                self.acknowledged.difference(&self.arrived).next()
            );
        }
        kill.finish().await
    }

    /// Notes what came; returns the deliveries to ack.
    fn check_in(&mut self, reply: &Value) -> Result<Vec<Value>> {
        let messages = reply["messages"].as_array().context("no messages")?;
        let mut deliveries = Vec::new();
        for message in messages {
            let text = message["body"].as_str().context("no body")?;
            let bytes = BASE64_STANDARD.decode(text).context("a body that is not base64")?;
            let number = number(&bytes)
                .with_context(|| format!("a body that was never sent: {}", shortened(message)))?;
            ensure!(bytes == body(number, self.size), "the body of message {number} has changed");
            self.arrived.insert(number);
            deliveries.push(message["delivery"].clone());
        }
        Ok(deliveries)
    }
}

/// One kill and restart of the proxy, beside what is going on.
struct Kill {
    at: Option<usize>,
    proxy: Running,
    running: Option<JoinHandle<Result<()>>>,
}

impl Kill {
    fn new(at: Option<usize>, proxy: Running) -> Self {
        Self { at, proxy, running: None }
    }

    fn when(&mut self, progress: usize) {
        if self.running.is_none() && self.at.is_some_and(|at| progress >= at) {
            let proxy = Arc::clone(&self.proxy);
            self.running = Some(tokio::spawn(async move { proxy.lock().await.kill_and_restart().await }));
        }
    }

    async fn finish(self) -> Result<()> {
        ensure!(self.at.is_none() || self.running.is_some(), "the proxy was never killed");
        match self.running {
            Some(running) => running.await?,
            None => Ok(()),
        }
    }
}

/// The number in front, then a pattern that depends on it.
fn body(number: u32, size: usize) -> Vec<u8> {
    let mut body = format!("{number} ").into_bytes();
    let fill = (0u8..=255).cycle().skip(number as usize % 256);
    body.extend(fill.take(size.saturating_sub(body.len())));
    body
}

fn number(body: &[u8]) -> Option<u32> {
    let end = body.iter().position(|byte| *byte == b' ')?;
    std::str::from_utf8(&body[..end]).ok()?.parse().ok()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_its_number() {
        for n in [0, 7, 9_999] {
            let bytes = body(n, 1024);
            assert_eq!((bytes.len(), number(&bytes)), (1024, Some(n)));
        }
        assert_ne!(body(1, 64)[4..], body(2, 64)[4..]);
    }
}
