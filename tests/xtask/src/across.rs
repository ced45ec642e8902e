//! Interoperability of the languages: what one sends, every other receives unchanged.

use std::{
    fs::File,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    conform::{self, Driver},
    installed::Installed,
    language::Language,
    proxy::Proxy,
    step,
    workspace::Workspace,
};

/// "Grüße" in UTF-8 and base64: a wrong encoding would change it.
const BODY: &str = "R3LDvMOfZQ==";

/// The conformance driver of a language, connected to a proxy.
pub(crate) struct Speaker {
    name: &'static str,
    child: Child,
    requests: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    sent: u64,
    producer: Value,
    consumer: Value,
}

impl Speaker {
    /// Starts and connects the driver. It subscribes to the topic named after its language.
    fn start(workspace: &Workspace, driver: &Driver, proxy: &Proxy) -> Result<Self> {
        let (program, arguments) = driver.command.split_first().context("a driver's program")?;
        let log = workspace.cache("log")?.join(format!("across-{}.log", driver.name));
        let mut command = Command::new(program);
        step::set_library_path(workspace, &mut command);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()
            .with_context(|| format!("starting the driver of {}", driver.name))?;
        let requests = child.stdin.take().context("the driver's input")?;
        let replies = BufReader::new(child.stdout.take().context("the driver's output")?).lines();
        let (producer, consumer) = (Value::Null, Value::Null);
        let mut speaker = Self { name: driver.name, child, requests, replies, sent: 0, producer, consumer };
        let client = speaker.call(json!({"op": "connect", "options": {"endpoints": proxy.endpoint()}}))?;
        let client = &client["handle"];
        let producer = speaker.call(json!({"op": "producer", "client": client, "topics": []}))?;
        let own = topic(speaker.name);
        let subscriptions = json!([{"topic": own}]);
        let consumer =
            json!({"op": "consumer", "client": client, "group": own, "subscriptions": subscriptions});
        speaker.consumer = speaker.call(consumer)?["handle"].clone();
        speaker.producer = producer["handle"].clone();
        Ok(speaker)
    }

    /// Sends a message to the topic of another language.
    fn send_to(&mut self, receiver: &str) -> Result<()> {
        let message = json!({
            "topic": topic(receiver),
            "body": BODY,
            "tag": "letter",
            "keys": ["k1", "k2"],
            "properties": {"from": self.name, "größe": "1"},
        });
        self.call(json!({"op": "send", "producer": self.producer, "message": message})).map(drop)
    }

    /// Receives and acknowledges one message, and returns its sender. Fails if any field differs from what was sent.
    fn receive(&mut self) -> Result<String> {
        let consumer = self.consumer.clone();
        let received = self.call(json!({"op": "receive", "consumer": consumer, "max_messages": 1}))?;
        let message = &received["messages"][0];
        let from = message["properties"]["from"].as_str().with_context(|| format!("received {received}"))?;
        ensure!(message["body"] == BODY && message["tag"] == "letter", "{} received {message}", self.name);
        ensure!(message["keys"] == json!(["k1", "k2"]), "{} received {message}", self.name);
        ensure!(message["properties"]["größe"] == "1", "{} received {message}", self.name);
        self.call(json!({"op": "ack", "consumer": consumer, "delivery": message["delivery"]}))?;
        Ok(from.to_owned())
    }

    /// Sends one request and reads its reply.
    fn call(&mut self, mut request: Value) -> Result<Value> {
        self.sent += 1;
        request["id"] = json!(self.sent);
        writeln!(self.requests, "{request}")?;
        self.requests.flush()?;
        let reply = self.replies.next().with_context(|| format!("the driver of {} is gone", self.name))??;
        let mut reply: Value = serde_json::from_str(&reply)?;
        if reply["ok"].is_null() {
            bail!("{} answered {} with {}", self.name, request["op"], reply["error"]);
        }
        Ok(reply["ok"].take())
    }
}

impl Drop for Speaker {
    /// A driver exits when its input ends. One that hangs is killed.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn topic(receiver: &str) -> String {
    format!("letters-to-{receiver}")
}

/// Starts one driver per language.
pub(crate) fn speakers(
    workspace: &Workspace,
    installed: &Installed<'_>,
    languages: &[Language],
    proxy: &Proxy,
) -> Result<Vec<Speaker>> {
    let mut speakers = Vec::new();
    for language in languages {
        let drivers = conform::drivers(workspace, installed, *language)?;
        speakers.push(Speaker::start(workspace, drivers.first().context("a driver")?, proxy)?);
    }
    Ok(speakers)
}

/// Sends from every language to every language, itself included, and checks each message on arrival.
pub(crate) fn exchange(speakers: &mut [Speaker]) -> Result<()> {
    for receiver in 0..speakers.len() {
        for sender in 0..speakers.len() {
            deliver(speakers, sender, receiver)?;
        }
    }
    Ok(())
}

/// Sends from each language to the next, and calls `tell` with the receiver and the sender.
pub(crate) fn round(speakers: &mut [Speaker], tell: impl Fn(usize, usize)) -> Result<()> {
    for sender in 0..speakers.len() {
        let receiver = (sender + 1) % speakers.len();
        deliver(speakers, sender, receiver)?;
        tell(sender, receiver);
    }
    Ok(())
}

fn deliver(speakers: &mut [Speaker], sender: usize, receiver: usize) -> Result<()> {
    let (name, to) = (speakers[sender].name, speakers[receiver].name);
    speakers[sender].send_to(to)?;
    let from = speakers[receiver].receive()?;
    ensure!(from == name, "{to} received a letter from {from}, not from {name}");
    Ok(())
}
