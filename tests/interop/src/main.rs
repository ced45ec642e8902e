//! `interop`: runs Apache's clients and the recorded answers of Apache's proxy against our proxy, merged and in front of
//! Apache's brokers.

mod access;
mod classic;
mod client;
mod install;
mod kinds;
mod remoting;
mod transcripts;

use std::{
    env,
    path::{Path, PathBuf},
    process::{ExitCode, Output},
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use conformance::proxy::Proxy;
use futures::{StreamExt, future::join_all, stream};
use tokio::process::Command;

use client::Client;

/// The folder of the programs and the recorded answers.
const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// How many clients run at the same time. They mostly wait for long polls.
const JOBS: usize = 6;

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Guest {
    Java,
    Classic,
    Go,
    Python,
    Node,
    Transcripts,
    Access,
    Remoting,
}

/// Runs Apache's clients and the recorded answers of Apache's proxy against our proxy
#[derive(Debug, Parser)]
struct Arguments {
    /// Run only these parts; may be repeated
    #[arg(long)]
    only: Vec<Guest>,
    /// Run only transcripts whose name matches
    #[arg(long, value_name = "REGEX", default_value = "")]
    case: String,
    /// The rocketmq-thin-proxy binary [default: beside this program]
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// A name server of real brokers: also test the separated proxy
    #[arg(long, value_name = "HOST:PORT")]
    name_server: Option<String>,
    /// Apache's own proxy in front of the same brokers, for comparison
    #[arg(long, value_name = "HOST:PORT", requires = "name_server")]
    apache_proxy: Option<String>,
    /// Instead of all this: record what these brokers answer to the requests of the remoting transcripts
    #[arg(long, requires = "name_server")]
    record: bool,
    /// The remoting port of Apache's proxy, to record its answers, too
    #[arg(long, value_name = "HOST:PORT", requires = "record")]
    apache_remoting: Option<String>,
    /// Folder for installed packages [default: x/interop in cargo's output folder]
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
    if let (true, Some(name_server)) = (arguments.record, &arguments.name_server) {
        remoting::record(name_server, arguments.apache_remoting.as_deref()).await?;
        return Ok(ExitCode::SUCCESS);
    }
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
    let mut places = vec![Place::Merged(&proxy)];
    places.extend(arguments.name_server.as_deref().map(|name_server| Place::Separated(&proxy, name_server)));
    let mut replayer = None;
    if wanted(Guest::Transcripts) || wanted(Guest::Access) {
        match transcripts::prepare(&cache).await {
            Ok(ready) => replayer = Some(ready),
            Err(error) => {
                println!("FAILED Transcripts: {error:#}");
                tally.failed += 1;
            }
        }
    }
    // These run at the same time: they mostly wait for long polls and leases.
    let visits = join_all(places.iter().map(async |place| {
        let mut outcomes = vec![visit(&clients, place).await.context(place.mode())];
        if wanted(Guest::Remoting) {
            outcomes.push(remoting::replay(place, &arguments.case).await.context(place.mode()));
        }
        let Some(replayer) = &replayer else { return outcomes };
        if wanted(Guest::Access) && matches!(place, Place::Merged(_)) {
            let replayed = access::replay(replayer, place, (&cache, &arguments.case)).await;
            outcomes.push(replayed.context(place.mode()));
        }
        if wanted(Guest::Transcripts) {
            // Afterwards: the recorded times hold on a quiet machine only.
            let replayed = transcripts::replay_cases(replayer, place, &arguments.case).await;
            outcomes.push(replayed.context(place.mode()));
        }
        outcomes
    }));
    let kinds = async {
        let mut tally = Tally::default();
        for place in places.iter().filter(|_| wanted(Guest::Java)) {
            let apache_proxy = arguments.apache_proxy.as_deref();
            let outcome = all_kinds(&cache, place, apache_proxy).await?;
            tally.passed += outcome.passed;
            tally.failed += outcome.failed;
        }
        Ok(tally)
    };
    let classic = async {
        let mut tally = Tally::default();
        for place in places.iter().filter(|_| wanted(Guest::Classic)) {
            let outcome = classic::visit(&cache, place).await?;
            tally.passed += outcome.passed;
            tally.failed += outcome.failed;
        }
        Ok(tally)
    };
    let (visits, kinds, classic) = tokio::join!(visits, kinds, classic);
    for outcome in visits.into_iter().flatten().chain([kinds, classic]) {
        let outcome = outcome.unwrap_or_else(|error| {
            println!("FAILED {error:#}");
            Tally { passed: 0, failed: 1 }
        });
        tally.passed += outcome.passed;
        tally.failed += outcome.failed;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The mode of our proxy.
enum Place<'a> {
    /// Merged, with its own broker.
    Merged(&'a Path),
    /// Separated, in front of the brokers of this name server.
    Separated(&'a Path, &'a str),
}

impl Place<'_> {
    fn mode(&self) -> &'static str {
        match self {
            Self::Merged(_) => "merged",
            Self::Separated(..) => "separated",
        }
    }

    fn program(&self) -> &Path {
        let (Self::Merged(program) | Self::Separated(program, _)) = self;
        program
    }

    /// The arguments of the proxy.
    async fn start(&self, arguments: &[String]) -> Result<Proxy> {
        match self {
            Self::Merged(program) => Proxy::start(program, arguments).await,
            Self::Separated(program, name_server) => {
                let in_front = ["--name-server", name_server, "--handle-key", "interop"].map(str::to_owned);
                Proxy::start(program, &[&in_front, arguments].concat()).await
            }
        }
    }
}

/// Runs the clients against one proxy.
async fn visit(clients: &[Client], place: &Place<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    if clients.is_empty() {
        return Ok(tally);
    }
    let server = place.start(&["--auto-create-topics", "true"].map(str::to_owned)).await?;
    let mut outcomes = stream::iter(clients)
        .map(async |client| (client, client.run(server.address()).await))
        .buffer_unordered(JOBS);
    while let Some((client, outcome)) = outcomes.next().await {
        report(&format!("{} · {}", place.mode(), client.name), client, outcome, &mut tally);
    }
    Ok(tally)
}

/// Runs Apache's Java client with every message type through our proxy, and in separated mode through Apache's in front
/// of the same brokers. A check that fails on both is a fault of the check.
async fn all_kinds(cache: &Path, place: &Place<'_>, apache_proxy: Option<&str>) -> Result<Tally> {
    let mut tally = Tally::default();
    let program = place.program();
    let server = place.start(&[]).await?;
    let apache_proxy = apache_proxy.filter(|_| matches!(place, Place::Separated(..)));
    let endpoints = [(place.mode(), Some(server.address())), ("apaches", apache_proxy)];
    for (whose, endpoint) in endpoints {
        let Some(endpoint) = endpoint else { continue };
        let client = kinds::prepare(cache, &format!("kinds-{whose}-{}", std::process::id())).await?;
        kinds::make_topics(program, server.address(), &client.name).await?;
        report(&format!("every type · {whose}"), &client, client.run(endpoint).await, &mut tally);
    }
    Ok(tally)
}

#[expect(clippy::print_stdout, reason = "a command line program")]
fn report(name: &str, client: &Client, outcome: Result<Output>, tally: &mut Tally) {
    let (output, errors) = match outcome {
        Ok(output) => (text(&output.stdout), text(&output.stderr)),
        Err(error) => (String::new(), format!("{error:#}")),
    };
    let mut complete = true;
    for check in client.checks {
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

/// Runs a program to its end. Returns an error if it fails.
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
