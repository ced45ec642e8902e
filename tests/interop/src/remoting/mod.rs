//! The remoting transcripts: recorded answers of Apache's name server, broker and proxy to classic requests, replayed
//! against our proxy.

mod call;
mod case;
mod play;
mod shape;
mod target;

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use serde_json::Value;

use crate::{Place, Tally};
use case::{Case, Differences};
use target::Target;

/// The recorded broker created groups automatically, but not topics.
const FLAGS: [&str; 6] =
    ["--remoting", "true", "--auto-create-topics", "false", "--auto-create-groups", "true"];
/// Cases that run at the same time.
const JOBS: usize = 16;

/// Replays the matching cases and prints the differences.
#[expect(clippy::print_stdout, reason = "part of a command line program")]
pub(crate) async fn replay(place: &Place<'_>, names: &str) -> Result<Tally> {
    let cases = case::read(names)?;
    let differences = Differences::read(place.mode())?;
    let server = place.start(&FLAGS.map(str::to_owned)).await?;
    let target = Target::proxy(server.address()).await?;
    let seen = play_all(&cases, &target).await.with_context(|| server.log_tail())?;
    let mut tally = Tally::default();
    for (case, observed) in cases.iter().zip(seen) {
        let found = found(case, &observed?, &differences);
        if differences.expect(&case.name, !found.is_empty()) {
            tally.passed += 1;
            continue;
        }
        tally.failed += 1;
        println!("FAILED {} · remoting · {}: {}", place.mode(), case.name, case.shows);
        if found.is_empty() {
            println!(
                "  differs on purpose, says remoting-differences.txt, but it answers as Apache's broker does"
            );
        }
        found.iter().for_each(|line| println!("  {line}"));
    }
    println!("{} cases of the remoting protocol against the {} proxy", cases.len(), place.mode());
    Ok(tally)
}

/// Records what Apache's servers answer.
pub(crate) async fn record(name_server: &str, proxy: Option<&str>) -> Result<()> {
    let mut cases = case::read("")?;
    let brokers = play_all(&cases, &Target::apaches(name_server).await?).await?;
    let proxies = match proxy {
        Some(proxy) => play_all(&cases, &Target::apaches_proxy(name_server, proxy).await?).await?,
        None => Vec::new(),
    };
    for (case, observed) in cases.iter_mut().zip(brokers) {
        for (step, answer) in case.steps.iter_mut().zip(observed?) {
            step.answer = answer;
            step.proxy = Value::Null;
        }
    }
    for (case, observed) in cases.iter_mut().zip(proxies) {
        for (step, answer) in case.steps.iter_mut().zip(observed?) {
            if !shape::differences(&step.answer, &answer).is_empty() {
                step.proxy = answer;
            }
        }
    }
    case::write(&cases)
}

async fn play_all(cases: &[Case], target: &Target) -> Result<Vec<Result<Vec<Value>>>> {
    let run = format!("r{}", play::now() % 100_000_000);
    target.prepare(cases, &run).await.context("creating topics and groups")?;
    let plays = stream::iter(cases)
        .map(async |case| play::play(case, target, &run).await.with_context(|| case.name.clone()));
    Ok(plays.buffered(JOBS).collect().await)
}

/// The differences of a case that count.
fn found(case: &Case, observed: &[Value], listed: &Differences) -> Vec<String> {
    let steps = case.steps.iter().zip(observed).enumerate();
    let differences = steps.flat_map(|(number, (step, seen))| {
        let lines = shape::differences(&step.answer, seen).into_iter();
        let counts = |line: &String| listed.counts(line.split(' ').nth(1).unwrap_or_default());
        lines.filter(counts).map(move |line| format!("step {} code {}: {line}", number + 1, step.code))
    });
    differences.collect()
}
