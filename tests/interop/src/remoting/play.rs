//! Plays cases against a server.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use regex::{Captures, Regex};
use rocketmq_thin_proxy::remoting::{
    HeaderType, Language, RemotingCommand,
    message::{BatchEntry, put_batch_entry},
};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};

use super::{
    call::{Connection, connect},
    case::{Case, Step},
    shape::Shapes,
    target::Target,
};

/// A request without an answer by then has none.
const ANSWER: Duration = Duration::from_secs(10);
/// How long to wait for the answer that a one-way request must not have.
const NO_ANSWER: Duration = Duration::from_millis(300);
/// How long a request is repeated.
const REPEAT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// What a server did with a request that it did not answer.
const SILENT: &str = "no answer";
const CLOSED: &str = "closed";

/// Plays a case. Returns an observation for each step.
pub(super) async fn play(case: &Case, target: &Target, run: &str) -> Result<Vec<Value>> {
    let mut values = target.values(case, run);
    let mut connections = BTreeMap::new();
    let mut observed = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let address = target.address(step.code);
        let connection = match connections.entry(address) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(none) => none.insert(connect(address).await?),
        };
        let begin = Instant::now();
        let answer = loop {
            let answer = ask(connection, step, &values).await?;
            let wanted =
                step.until.is_none_or(|code| answer.as_ref().is_ok_and(|answer| answer.code == code));
            if wanted || begin.elapsed() > REPEAT {
                break answer;
            }
            sleep(PAUSE).await;
        };
        observed.push(match answer {
            Ok(answer) => {
                save(step, &answer, &mut values).with_context(|| format!("step {}", number + 1))?;
                Shapes::of(&values).answer(&answer, step)
            }
            Err(nothing) => Value::from(nothing),
        });
    }
    Ok(observed)
}

/// Sends the request of a step. Returns its answer, or what happened instead.
async fn ask(
    connection: &mut Connection,
    step: &Step,
    values: &BTreeMap<String, String>,
) -> Result<Result<RemotingCommand, &'static str>> {
    let sent = match &step.raw {
        Some(digits) => connection.get_mut().write_all(&bytes(digits)?).await.is_ok(),
        None => connection.send(request(step, values)?).await.is_ok(),
    };
    if !sent {
        return Ok(Err(CLOSED));
    }
    let within = if step.one_way { NO_ANSWER } else { ANSWER };
    let answer = timeout(within, async {
        loop {
            match connection.next().await {
                // A request to the client.
                Some(Ok(command)) if !command.is_response() => {}
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(_)) | None => return Err(CLOSED),
            }
        }
    });
    Ok(answer.await.unwrap_or(Err(SILENT)))
}

/// The number of every request.
pub(super) const OPAQUE: i32 = 7;

fn request(step: &Step, values: &BTreeMap<String, String>) -> Result<RemotingCommand> {
    // The language in which the answers were recorded, some of which repeat it.
    let language = Language::of("RUST");
    let mut command = RemotingCommand { opaque: OPAQUE, language, ..RemotingCommand::request(step.code) };
    for (key, value) in &step.fields {
        command.fields.insert(key.clone().into(), fill(value, values)?);
    }
    let body = match &step.body {
        Some(Value::String(text)) => fill(text, values)?.into(),
        Some(json) => fill(&json.to_string(), values)?.into(),
        None => step.bytes.map(|bytes| vec![b'x'; bytes]).unwrap_or_default(),
    };
    let mut batch = BytesMut::new();
    for (body, properties) in &step.batch {
        let (properties, body) = (properties.clone(), body.clone().into());
        put_batch_entry(&mut batch, &BatchEntry { flag: 0, properties, body });
    }
    command.body = if batch.is_empty() { body.into() } else { batch.freeze() };
    let command = command.header(if step.binary { HeaderType::Binary } else { HeaderType::Json });
    Ok(if step.one_way { command.one_way() } else { command })
}

/// Replaces `{NAME}` by its value, `{now}` and `{now+N}` by a time, and `{x:N}` by that many letters.
fn fill(text: &str, values: &BTreeMap<String, String>) -> Result<String> {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{([A-Za-z]\w*)(?::(\d+))?([+-]\d+)?\}").expect("a regular expression")
    });
    let mut unknown = None;
    let filled = PATTERN.replace_all(text, |found: &Captures<'_>| match (&found[1], found.get(2)) {
        ("x", Some(count)) => "x".repeat(count.as_str().parse().unwrap_or(0)),
        ("now", None) => {
            let shift = found.get(3).map_or(0, |shift| shift.as_str().parse().unwrap_or(0));
            (now() + shift).to_string()
        }
        (name, _) => values.get(name).cloned().unwrap_or_else(|| {
            unknown = Some(name.to_owned());
            String::new()
        }),
    });
    let filled = filled.into_owned();
    match unknown {
        Some(name) => bail!("{{{name}}} has no value"),
        None => Ok(filled),
    }
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn save(step: &Step, answer: &RemotingCommand, values: &mut BTreeMap<String, String>) -> Result<()> {
    for (name, from) in &step.save {
        let (field, part) = from.split_once(' ').unwrap_or((from, ""));
        let text = answer.text(field).unwrap_or_default();
        let value = match part {
            "" => text.to_owned(),
            "#" => {
                let digits = text.get(text.len().saturating_sub(16)..).unwrap_or_default();
                i64::from_str_radix(digits, 16).unwrap_or(-1).to_string()
            }
            word => text.split(' ').nth(word.parse()?).unwrap_or_default().to_owned(),
        };
        values.insert(name.clone(), value);
    }
    Ok(())
}

fn bytes(digits: &str) -> Result<Vec<u8>> {
    let digits: Vec<char> = digits.chars().filter(char::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16));
    pairs.map(|byte| byte.context("hexadecimal digits")).collect()
}
