//! What a scripted server keeps while it runs: its script, what is left to hand out, and what it has seen.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use rocketmq_thin_proto::v2::Message;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    json::Json,
    seen::{Call, Seen},
    stored,
};
use crate::{
    pattern,
    script::{Rule, Script},
};

#[derive(Debug)]
pub(super) struct State {
    script: Script,
    advertised: (String, u16),
    json: Json,
    seen: Seen,
    undelivered: Mutex<VecDeque<Message>>,
    telemetry: Mutex<CancellationToken>,
    released: watch::Sender<bool>,
}

impl State {
    pub(super) fn new(script: Script, advertised: (String, u16)) -> Result<Self> {
        let undelivered = Mutex::new(stored::messages(&script.messages)?.into());
        Ok(Self {
            script,
            advertised,
            json: Json::new()?,
            seen: Seen::default(),
            undelivered,
            telemetry: Mutex::default(),
            released: watch::Sender::new(false),
        })
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    pub(super) fn silent_about_batches(&self) -> bool {
        self.script.silent_about_batches
    }

    /// Host and port that routes name.
    pub(super) fn advertised(&self) -> &(String, u16) {
        &self.advertised
    }

    /// The permissions of a topic's queues.
    pub(super) fn queues(&self, topic: &str) -> Vec<String> {
        self.script.topics.get(topic).cloned().unwrap_or_else(|| vec!["READ_WRITE".to_owned()])
    }

    /// Notes the call; returns the rule that decides about it.
    pub(super) fn note(&self, call: Call) -> Rule {
        let (rpc, request) = (call.rpc, call.request.clone());
        let number = self.seen.add(call);
        let fits = |rule: &&Rule| {
            rule.rpc == rpc
                && rule.calls.contains(number)
                && rule.request.as_ref().is_none_or(|wanted| pattern::check(wanted, &request).is_ok())
        };
        self.script.rules.iter().find(fits).cloned().unwrap_or_default()
    }

    /// The next messages of a topic, at most `limit`; one without a topic in the script is of any.
    pub(super) fn take(&self, topic: &str, limit: usize) -> Vec<Message> {
        let mut undelivered = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        let mut kept = VecDeque::new();
        while let Some(mut message) = undelivered.pop_front() {
            if let Some(resource) = message.topic.as_mut().filter(|resource| resource.name.is_empty()) {
                topic.clone_into(&mut resource.name);
            }
            let fits = message.topic.as_ref().is_some_and(|resource| resource.name == topic);
            if fits && taken.len() < limit { taken.push(message) } else { kept.push_back(message) }
        }
        *undelivered = kept;
        taken
    }

    /// Cancelled when the server ends the telemetry streams that are open now.
    pub(super) fn telemetry(&self) -> CancellationToken {
        self.telemetry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn disconnect_telemetry(&self) {
        let mut telemetry = self.telemetry.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *telemetry).cancel();
    }

    pub(super) fn release(&self) {
        self.released.send_replace(true);
    }

    /// Returns when the calls that hang are let go.
    pub(super) async fn until_released(&self) {
        let mut released = self.released.subscribe();
        // The sender lives as long as the state: no error.
        let _ = released.wait_for(|released| *released).await;
    }

    /// A request as JSON, or its error as text: a record that is not readable fails no call.
    pub(super) fn show(&self, name: &str, message: &impl prost::Message) -> Value {
        self.json.show(name, message).unwrap_or_else(|error| Value::String(format!("{error:#}")))
    }
}
