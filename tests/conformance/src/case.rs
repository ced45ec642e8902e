//! A test case, as read from a YAML file: names, servers, script and steps.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

use crate::{
    report::Report,
    script::{Script, StoredMessage},
};

/// The timeout of a step, added to its `await_ms`. `within_s` overrides both.
const HANG: Duration = Duration::from_secs(60);

/// A requirement on the server of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// The server inside the runner that plays the case's script.
    Scripted,
    /// Any real proxy.
    Proxy,
    /// Our proxy with its own broker.
    Merged,
    /// Our proxy in front of Apache's brokers.
    Separated,
    /// Apache's proxy.
    Apache,
}

/// The kind of server that a case is played on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum ServerKind {
    /// The server inside the runner that plays the case's script.
    Scripted,
    /// Our proxy with its own broker.
    Merged,
    /// Our proxy in front of Apache's brokers.
    Separated,
    /// Apache's proxy in front of Apache's brokers.
    Apache,
}

impl ServerKind {
    /// The word used in case files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scripted => "scripted",
            Self::Merged => "merged",
            Self::Separated => "separated",
            Self::Apache => "apache",
        }
    }

    /// Whether a case is run on it. Cases that need a private proxy are skipped on Apache's proxy, which is shared.
    #[must_use]
    pub fn suits(self, case: &Case) -> bool {
        let needs = |wanted| case.servers.contains(&wanted);
        match self {
            Self::Scripted => needs(Needs::Scripted),
            Self::Merged => needs(Needs::Proxy) || needs(Needs::Merged),
            Self::Separated => needs(Needs::Proxy) || needs(Needs::Separated),
            Self::Apache => (needs(Needs::Proxy) || needs(Needs::Apache)) && !case.private,
        }
    }
}

/// One behaviour that users can see.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique among all cases.
    pub name: String,
    /// The behaviour in one line.
    pub shows: String,
    /// The servers on which the case is run.
    pub servers: Vec<Needs>,
    /// What the scripted server does.
    #[serde(default)]
    pub script: Script,
    /// Whether the case gets a proxy of its own instead of the shared one.
    #[serde(default)]
    pub private: bool,
    /// Arguments of the private proxy.
    #[serde(default)]
    pub proxy_args: Vec<String>,
    /// Topics and groups that a proxy has before the first step, as `rocketmq-thin-proxy apply` reads them.
    pub apply: Option<Value>,
    /// What is done and expected, in order.
    pub steps: Vec<Step>,
}

impl Case {
    /// The topics in requests at the top level, before names are replaced.
    #[must_use]
    pub fn topics(&self) -> BTreeSet<String> {
        let mut topics = BTreeSet::new();
        for step in &self.steps {
            if let Action::Request { fields, .. } = &step.action {
                fields.iter().for_each(|(key, value)| collect_topics(key, value, &mut topics));
            }
        }
        topics
    }
}

fn collect_topics(key: &str, value: &Value, topics: &mut BTreeSet<String>) {
    match value {
        Value::String(topic) if matches!(key, "topic" | "topics") => drop(topics.insert(topic.clone())),
        Value::Array(list) => list.iter().for_each(|value| collect_topics(key, value, topics)),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| collect_topics(key, value, topics));
        }
        _ => {}
    }
}

/// An action, and the expected reply.
#[derive(Debug, Clone)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// What the reply has to match.
    pub expected: Expected,
    /// The name under which the reply is kept.
    pub save_as: Option<String>,
    /// The time after which the step counts as hanging.
    pub within: Duration,
}

/// What the reply of a driver has to match.
#[derive(Debug, Clone)]
pub enum Expected {
    /// Any success.
    Success,
    /// A success that matches the pattern.
    Ok(Value),
    /// An error that matches the pattern.
    Error(Value),
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Action {
    /// A request to the driver. Waits for the reply unless `start` is set.
    Request {
        /// The operation, such as `send`.
        op: String,
        /// Its fields.
        fields: Map<String, Value>,
        /// The name by which it is joined or cancelled later.
        start: Option<String>,
        /// Repeats a receive until it has returned this many messages in total, or a receive returns none.
        gather: Option<usize>,
    },
    /// Waits for the reply of a started request.
    Join(String),
    /// Cancels a started request.
    Cancel(String),
    /// Waits until the scripted server has seen the calls.
    Wait(Sighting),
    /// Checks what the scripted server has seen so far.
    Saw(Sighting),
    /// Waits until the driver has reported the events, then checks them.
    Reports(Report),
    /// Checks what the driver has reported so far.
    Reported(Report),
    /// Disturbs the server.
    Server(ServerEvent),
    /// The scripted server sends a command to clients on their telemetry streams.
    Tell {
        /// A pattern of the settings of the receiving clients; default: all.
        to: Value,
        /// The command, as protobuf JSON.
        command: Value,
        /// Repeats the command until the server has received these calls.
        until: Option<Sighting>,
    },
    /// The scripted server gets more messages to hand out.
    Put(Vec<StoredMessage>),
    /// Sends many messages and remembers which were acknowledged.
    Flood(Flood),
    /// Receives and acks until all messages of the flood have come.
    Drain(Drain),
    /// The same steps several times.
    Repeat {
        /// The number of repetitions.
        times: u32,
        /// The repeated steps.
        steps: Vec<Step>,
    },
}

/// What happens to a server in the course of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerEvent {
    /// Ends all telemetry streams.
    DisconnectTelemetry,
    /// Closes all connections.
    DropConnections,
    /// Answers the calls that rules with `hang` hold back.
    Release,
    /// The proxy is killed with SIGKILL and started again on the same port and data.
    KillAndRestart,
}

/// Calls that the scripted server is expected to have seen.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sighting {
    /// The RPC, `Settings` for settings on a telemetry stream, or `*` for all RPCs.
    pub rpc: String,
    /// The exact number of calls.
    pub count: Option<usize>,
    /// The minimum number of calls.
    pub at_least: Option<usize>,
    /// The maximum number of calls.
    pub at_most: Option<usize>,
    /// Only calls whose request matches are counted.
    pub request: Option<Value>,
    /// A pattern for the request of each counted call, in the order of arrival.
    pub order: Option<Vec<Value>>,
    /// A field that must have the same value in every counted call.
    pub same: Option<String>,
    /// Headers that every counted call must carry.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// The credentials with which every counted call must be signed.
    pub signed_by: Option<Signer>,
}

/// Credentials to check signatures by.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// The access key named in the header.
    pub access_key: String,
    /// The key of the signature.
    pub secret_key: String,
}

/// Many numbered messages of one size.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// Handle of the producer.
    pub producer: String,
    /// Topic of every message.
    pub topic: String,
    /// Number of messages.
    pub count: u32,
    /// The size of a body in bytes.
    pub size: usize,
    /// Messages in one `send_all`.
    pub chunk: usize,
    /// The server is killed and restarted when this many messages are acknowledged.
    pub kill_at: Option<usize>,
}

/// Receiving what a flood has sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Handle of the consumer.
    pub consumer: String,
    /// The server is killed and restarted when this many different messages have arrived.
    pub kill_at: Option<usize>,
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::<String, Value>::deserialize(deserializer)?;
        let shown = Value::Object(fields.clone());
        step(fields).map_err(|error| D::Error::custom(format!("{error:#} in the step {shown}")))
    }
}

fn step(mut fields: Map<String, Value>) -> Result<Step> {
    let save_as = text(&mut fields, "as")?;
    let within = match fields.remove("within_s") {
        None => {
            HANG + Duration::from_millis(fields.get("await_ms").and_then(Value::as_u64).unwrap_or_default())
        }
        Some(seconds) => Duration::from_secs(seconds.as_u64().context("within_s: a number of seconds")?),
    };
    let expected = match (fields.remove("ok"), fields.remove("error")) {
        (None, None) => Expected::Success,
        (Some(pattern), None) => Expected::Ok(pattern),
        (None, Some(pattern)) => Expected::Error(pattern),
        (Some(_), Some(_)) => bail!("a step can't have both ok and error"),
    };
    let action = action(fields)?;
    let replies = matches!(action, Action::Request { start: None, .. } | Action::Join(_));
    ensure!(
        replies || (matches!(expected, Expected::Success) && save_as.is_none()),
        "this step has no reply"
    );
    Ok(Step { action, expected, save_as, within })
}

fn action(mut fields: Map<String, Value>) -> Result<Action> {
    if let Some(op) = text(&mut fields, "do")? {
        let start = text(&mut fields, "start")?;
        let gather = fields.remove("gather").map(serde_json::from_value).transpose().context("gather")?;
        ensure!(
            gather.is_none() || (op == "receive" && start.is_none()),
            "gather: only where a receive is waited for"
        );
        return Ok(Action::Request { op, fields, start, gather });
    }
    if let Some(times) = fields.remove("repeat") {
        return Ok(Action::Repeat {
            times: serde_json::from_value(times).context("repeat")?,
            steps: serde_json::from_value(fields.remove("steps").context("repeat without steps")?)?,
        });
    }
    if let Some(command) = fields.remove("tell") {
        let to = fields.remove("to").unwrap_or_else(|| Value::Object(Map::new()));
        let until = fields.remove("until").map(serde_json::from_value).transpose().context("until")?;
        ensure!(fields.is_empty(), "tell: only with to and until");
        return Ok(Action::Tell { to, command, until });
    }
    let mut entries = fields.into_iter();
    let (Some((kind, value)), None) = (entries.next(), entries.next()) else {
        bail!("neither `do` nor a single known step");
    };
    Ok(match kind.as_str() {
        "join" => Action::Join(serde_json::from_value(value)?),
        "cancel" => Action::Cancel(serde_json::from_value(value)?),
        "wait" => Action::Wait(serde_json::from_value(value)?),
        "saw" => Action::Saw(serde_json::from_value(value)?),
        "reports" => Action::Reports(serde_json::from_value(value)?),
        "reported" => Action::Reported(serde_json::from_value(value)?),
        "put" => Action::Put(serde_json::from_value(value)?),
        "server" => Action::Server(serde_json::from_value(value)?),
        "flood" => Action::Flood(serde_json::from_value(value)?),
        "drain" => Action::Drain(serde_json::from_value(value)?),
        other => bail!("unknown step {other}"),
    })
}

fn text(fields: &mut Map<String, Value>, key: &str) -> Result<Option<String>> {
    match fields.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => bail!("{key}: a text, not {other}"),
    }
}

/// Reads every case of a folder's `.yaml` files, in the order of file names.
///
/// # Errors
/// When a file cannot be read or understood, or two cases share a name.
pub fn load(folder: &Path) -> Result<Vec<Case>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let found: Vec<Case> =
            serde_yaml_ng::from_str(&text).with_context(|| format!("in {}", file.display()))?;
        for case in found {
            ensure!(
                !cases.iter().any(|other| other.name == case.name),
                "two cases have the name {}",
                case.name
            );
            cases.push(case);
        }
    }
    ensure!(!cases.is_empty(), "no case in {}", folder.display());
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_can_be_read() {
        let cases = load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))).unwrap();
        assert!(cases.iter().all(|case| !case.servers.is_empty() && !case.steps.is_empty()));
    }

    #[test]
    fn invalid_steps_are_refused() {
        for text in [
            "{joins: a}",
            "{saw: {rcp: SendMessage}}",
            "{cancel: a, ok: {}}",
            "{do: send, ok: {}, error: {}}",
            "{do: send, gather: 2}",
        ] {
            assert!(serde_yaml_ng::from_str::<Step>(text).is_err(), "{text}");
        }
    }
}
