//! What a scripted server keeps while it runs: its script, what is left to hand out, and what it has seen.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use rocketmq_thin_proto::v2::Message;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    json::Json,
    seen::{Call, Seen},
    stored,
    telemetry::Listener,
};
use crate::{
    pattern,
    script::{Rule, Script, StoredMessage},
};

/// The longest poll: long enough for a loop not to spin, short enough for a receive that brings nothing.
const POLL: Duration = Duration::from_millis(200);

/// The messages that are left to hand out, and the number of all that the script had so far.
#[derive(Debug)]
struct Undelivered {
    messages: VecDeque<Message>,
    count: usize,
}

#[derive(Debug)]
pub(super) struct State {
    script: Script,
    advertised: (String, u16),
    json: Json,
    seen: Seen,
    undelivered: Mutex<Undelivered>,
    arrived: watch::Sender<()>,
    listeners: Mutex<Vec<Listener>>,
    listening: watch::Sender<()>,
    telemetry: Mutex<CancellationToken>,
    released: watch::Sender<bool>,
}

impl State {
    pub(super) fn new(script: Script, advertised: (String, u16)) -> Result<Self> {
        let json = Json::new()?;
        let messages: VecDeque<Message> = stored::messages(&json, &script.messages, 1)?.into();
        let undelivered = Mutex::new(Undelivered { count: messages.len(), messages });
        Ok(Self {
            script,
            advertised,
            json,
            seen: Seen::default(),
            undelivered,
            arrived: watch::Sender::new(()),
            listeners: Mutex::default(),
            listening: watch::Sender::new(()),
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
        let authorization = call.metadata.get("authorization").cloned().unwrap_or_default();
        let number = self.seen.add(call);
        let fits = |rule: &&Rule| {
            (rule.rpc == rpc || rule.rpc == "*")
                && rule.calls.contains(number)
                && rule.request.as_ref().is_none_or(|wanted| pattern::check(wanted, &request).is_ok())
                && rule
                    .access_key
                    .as_ref()
                    .is_none_or(|key| authorization.contains(&format!("Credential={key},")))
        };
        self.script.rules.iter().find(fits).cloned().unwrap_or_default()
    }

    /// The next messages of a topic, at most `limit`; one without a topic in the script is of any.
    pub(super) fn take(&self, topic: &str, limit: usize) -> Vec<Message> {
        let undelivered = &mut lock(&self.undelivered).messages;
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

    /// The same, after waiting for one to arrive: at most so long, and not longer than [`POLL`].
    pub(super) async fn poll(&self, topic: &str, limit: usize, wait: Duration) -> Vec<Message> {
        let end = Instant::now() + wait.min(POLL);
        let mut arrived = self.arrived.subscribe();
        loop {
            let taken = self.take(topic, limit);
            // The sender lives as long as the state: only the time can end the wait.
            if !taken.is_empty() || timeout_at(end, arrived.changed()).await.is_err() {
                return taken;
            }
        }
    }

    pub(super) fn put(&self, script: &[StoredMessage]) -> Result<()> {
        let mut undelivered = lock(&self.undelivered);
        let messages = stored::messages(&self.json, script, undelivered.count + 1)?;
        undelivered.count += messages.len();
        undelivered.messages.extend(messages);
        self.arrived.send_replace(());
        Ok(())
    }

    /// Notes a call that the client has given up, or a stream that it has ended.
    pub(super) fn note_cancelled(&self, rpc: &'static str, metadata: BTreeMap<String, String>) {
        self.seen.add(Call { rpc: "Cancelled", metadata, request: json!({ "rpc": rpc }) });
    }

    pub(super) fn note_connection(&self) {
        self.seen.add(Call { rpc: "Connection", metadata: BTreeMap::new(), request: Value::Null });
    }

    pub(super) fn json(&self) -> &Json {
        &self.json
    }

    /// Told when there is one more listener.
    pub(super) fn listening(&self) -> &watch::Sender<()> {
        &self.listening
    }

    pub(super) fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        lock(&self.listeners)
    }

    /// Cancelled when the server ends the telemetry streams that are open now.
    pub(super) fn telemetry(&self) -> CancellationToken {
        lock(&self.telemetry).clone()
    }

    pub(super) fn disconnect_telemetry(&self) {
        std::mem::take(&mut *lock(&self.telemetry)).cancel();
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
