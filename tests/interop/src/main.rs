//! `interop`: Apache's own clients, and the record of what Apache's proxy answers, against our proxy.

mod client;
mod install;
mod transcripts;

use std::{
    env,
    path::{Path, PathBuf},
    process::{ExitCode, Output},
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use conformance::proxy::Proxy;
use futures::{StreamExt, stream};
use tokio::process::Command;

use client::Client;

/// The folder of the programs and the record.
const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// Clients that run at the same time: they mostly wait for long polls.
const JOBS: usize = 6;

/// Who talks to our proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Guest {
    Java,
    Go,
    Python,
    Node,
    Transcripts,
}

/// Runs Apache's clients and the record of Apache's answers against our merged proxy
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these; may be repeated
    #[arg(long)]
    only: Vec<Guest>,
    /// Only transcripts whose name matches
    #[arg(long, value_name = "REGEX", default_value = "")]
    case: String,
    /// The rocketmq-thin-proxy binary [default: beside this program]
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// Where packages are installed [default: x/interop in cargo's output folder]
    #[arg(long)]
    cache: Option<PathBuf>,
}

/// Passed and failed checks.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

#[expect(clippy::print_stdout, reason = "a command line program")]
#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let program = env::current_exe().context("finding this program")?;
    let programs = program.parent().context("a program outside any folder")?;
    let proxy = arguments.proxy.unwrap_or_else(|| programs.join("rocketmq-thin-proxy"));
    let cache = arguments.cache.unwrap_or_else(|| programs.join("../x/interop"));
    std::fs::create_dir_all(&cache)?;
    let cache = cache.canonicalize()?;
    let wanted = |guest: Guest| arguments.only.is_empty() || arguments.only.contains(&guest);

    let mut tally = Tally::default();
    let mut clients = Vec::new();
    for guest in
        [Guest::Java, Guest::Go, Guest::Python, Guest::Node].into_iter().filter(|guest| wanted(*guest))
    {
        match client::prepare(guest, &cache).await {
            Ok(ready) => clients.extend(ready),
            Err(error) => {
                println!("FAILED {guest:?}: {error:#}");
                tally.failed += client::CHECKS.len();
            }
        }
    }
    let visits = visit(&clients, &proxy);
    let replay = async {
        match wanted(Guest::Transcripts) {
            true => transcripts::replay(&proxy, &cache, &arguments.case).await,
            false => Ok(Tally::default()),
        }
    };
    // Both mostly wait, for long polls and for leases.
    let (visits, replay) = tokio::join!(visits, replay);
    for (name, outcome) in [("clients", visits), ("transcripts", replay)] {
        let outcome = outcome.unwrap_or_else(|error| {
            println!("FAILED {name}: {error:#}");
            Tally { passed: 0, failed: 1 }
        });
        tally.passed += outcome.passed;
        tally.failed += outcome.failed;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the clients against one proxy.
async fn visit(clients: &[Client], proxy: &Path) -> Result<Tally> {
    let mut tally = Tally::default();
    if clients.is_empty() {
        return Ok(tally);
    }
    let server = Proxy::start(proxy, &[]).await?;
    let mut outcomes = stream::iter(clients)
        .map(async |client| (client, client.run(server.address()).await))
        .buffer_unordered(JOBS);
    while let Some((client, outcome)) = outcomes.next().await {
        report(client, outcome, &mut tally);
    }
    Ok(tally)
}

#[expect(clippy::print_stdout, reason = "a command line program")]
fn report(client: &Client, outcome: Result<Output>, tally: &mut Tally) {
    let name = &client.name;
    let (output, errors) = match outcome {
        Ok(output) => (text(&output.stdout), text(&output.stderr)),
        Err(error) => (String::new(), format!("{error:#}")),
    };
    let mut complete = true;
    for check in client::CHECKS {
        let passed = output.lines().any(|line| line == format!("passed {check}"));
        println!("{} {name} · {check}", if passed { "passed" } else { "FAILED" });
        complete &= passed;
        tally.passed += usize::from(passed);
        tally.failed += usize::from(!passed);
    }
    if !complete {
        println!("{name} printed\n{output}{errors}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a program to its end; an error if it fails.
async fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().await.with_context(|| format!("starting {command:?}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(())
}
