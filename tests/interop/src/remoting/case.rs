//! The record: requests of the remoting protocol, and what Apache's servers answered.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::install::source;

const RECORD: &str = "transcripts/remoting.jsonl";
const DIFFERENCES: &str = "transcripts/remoting-differences.txt";

/// A few requests on one connection, with topics and groups of their own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    /// What it is about, in one line.
    pub(super) shows: String,
    /// What is created before, by the names that stand for them in requests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) topics: BTreeMap<String, Topic>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Topic {
    pub(super) queues: u32,
    /// Apache's name of its type, such as `NORMAL`.
    pub(super) r#type: String,
    /// Bits: 2 allows writes, 4 reads.
    #[serde(default = "read_and_write", skip_serializing_if = "is_read_and_write")]
    pub(super) perm: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    #[serde(default = "yes")]
    pub(super) consume: bool,
}

/// A request, and its answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Step {
    pub(super) code: i32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) fields: BTreeMap<String, String>,
    /// Text, or JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<Value>,
    /// Instead of a body: this many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<usize>,
    /// Instead of a body: the messages of a batch, each with its properties.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) batch: Vec<(String, String)>,
    /// Instead of a request: these bytes, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) raw: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) one_way: bool,
    /// Whether the header has RocketMQ's binary form.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) binary: bool,
    /// Repeats the request until it is answered by this code: some effects are not immediate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<i32>,
    /// Values of the answer that later requests use: `FIELD`, `FIELD WORD` for one of the words in it, or `FIELD #` for
    /// the position in a message id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) save: BTreeMap<String, String>,
    /// Fields and properties of the answer whose values don't count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) any: Vec<String>,
    /// What Apache's broker or name server answered.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) answer: Value,
    /// What Apache's proxy answered, where that is something else.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) proxy: Value,
}

fn read_and_write() -> u32 {
    6
}

fn is_read_and_write(perm: &u32) -> bool {
    *perm == read_and_write()
}

fn yes() -> bool {
    true
}

/// Reads the cases whose names match.
pub(super) fn read(names: &str) -> Result<Vec<Case>> {
    let names = Regex::new(names)?;
    let text = fs::read_to_string(source(RECORD)).context("reading the record")?;
    let cases = text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    let cases = cases.collect::<Result<Vec<Case>>>()?;
    Ok(cases.into_iter().filter(|case| names.is_match(&case.name)).collect())
}

/// Writes all cases with their answers.
pub(super) fn write(cases: &[Case]) -> Result<()> {
    let lines = cases.iter().map(|case| Ok(serde_json::to_string(case)? + "\n"));
    Ok(fs::write(source(RECORD), lines.collect::<Result<String>>()?)?)
}

/// The cases in which the proxy differs from Apache's broker on purpose, in one of its modes.
pub(super) struct Differences {
    /// These differ.
    on_purpose: Vec<Regex>,
    /// These may differ or not.
    either: Vec<Regex>,
    /// Parts of answers that don't count.
    parts: Vec<Regex>,
}

impl Differences {
    /// Reads lines of the form `[MODE:]NAME  # reason`, where `*` stands for anything. A name that begins with `/` is of a
    /// part of answers: it may differ everywhere.
    pub(super) fn read(mode: &str) -> Result<Self> {
        let text = fs::read_to_string(source(DIFFERENCES)).context("reading the differences")?;
        let mut all = Self { on_purpose: Vec::new(), either: Vec::new(), parts: Vec::new() };
        for line in text.lines() {
            let (pattern, reason) = line.split_once('#').unwrap_or((line, ""));
            let (only, name) = pattern.trim().rsplit_once(':').unwrap_or(("", pattern.trim()));
            if name.is_empty() {
                continue;
            }
            ensure!(!reason.trim().is_empty(), "{DIFFERENCES}: {name} has no reason");
            let pattern = Regex::new(&format!("^{}$", regex::escape(name.trim()).replace(r"\*", ".*")))?;
            match only.strip_suffix('?') {
                None if name.starts_with('/') => all.parts.push(pattern),
                Some(only) if only == mode => all.either.push(pattern),
                None if only.is_empty() || only == mode => all.on_purpose.push(pattern),
                _ => {}
            }
        }
        Ok(all)
    }

    /// Whether a part of an answer counts.
    pub(super) fn counts(&self, path: &str) -> bool {
        !self.parts.iter().any(|pattern| pattern.is_match(path))
    }

    /// Whether it is right that this case differs, or that it does not.
    pub(super) fn expect(&self, name: &str, differs: bool) -> bool {
        let listed = |patterns: &[Regex]| patterns.iter().any(|pattern| pattern.is_match(name));
        listed(&self.either) || listed(&self.on_purpose) == differs
    }
}
