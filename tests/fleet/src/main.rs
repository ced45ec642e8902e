//! `fleet`: three proxies in front of two real brokers, with clients spread by a TCP load balancer. A fault is injected
//! under load of every message type. At the end no acknowledged message may be missing, no transaction undecided, and
//! no client stuck.

mod balancer;
mod fault;
mod mixed_group;
mod normal;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cluster::{ACCESS_KEY, Cluster, Options, SECRET_KEY, VERSION};
use conformance::proxy::Proxy;
use futures::future::join_all;
use tokio::process::Command;

use fault::Fault;
use mixed_group::Hung;

/// How long outstanding messages may take after the load has ended: a lease and a few transaction checks.
const PATIENCE: Duration = Duration::from_secs(120);
const PROXIES: usize = 3;

/// The message types that Apache's Java client sends. Our own client sends NORMAL messages.
const TYPES: [&str; 5] = ["fifo", "delay", "transaction", "priority", "lite"];

/// Kills proxies, a broker or name servers under load, and counts lost messages
#[derive(Debug, Parser)]
struct Arguments {
    /// The fault to inject
    #[arg(long, default_value = "proxies")]
    fault: Fault,
    /// Duration of the load in seconds
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Interval between kills of a proxy
    #[arg(long, default_value_t = 5)]
    every: u64,
    /// Number of brokers. With one, a classic client shares groups with ours, and one of the two hangs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    brokers: u8,
    /// Brokers require TLS and signatures from the proxies
    #[arg(long)]
    guarded: bool,
    /// Apache's version
    #[arg(long, default_value = VERSION)]
    version: String,
    /// Leave a message type out; may be repeated. Brokers of 5.3.3 do not support priority and lite
    #[arg(long, value_parser = TYPES)]
    without: Vec<String>,
    /// The rocketmq-thin-proxy binary
    #[arg(long)]
    proxy: PathBuf,
    /// The folder that keeps the list of Apache's jars
    #[arg(long)]
    cache: PathBuf,
    /// The class path of Apache's Java client
    #[arg(long)]
    java_client: String,
    /// The class path of Apache's classic Java client
    #[arg(long)]
    classic_client: String,
}

#[expect(clippy::print_stdout, reason = "a command line program")]
#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("FAILED {error:#}\n0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command line program")]
async fn run(arguments: &Arguments) -> Result<(u32, u32)> {
    ensure!(
        arguments.brokers > 1 || !arguments.fault.takes_queues_away(),
        "without its only broker, nothing can be sent: this fault needs --brokers 2"
    );
    // The classic client is one that does not name the broker of a queue, so its topics must be on a single broker.
    let hung: &[Hung] = if arguments.brokers == 1 { &[Hung::Classic, Hung::Grpc] } else { &[] };
    let options = Options {
        name_servers: 2,
        brokers: arguments.brokers.into(),
        guarded: arguments.guarded,
        version: arguments.version.clone(),
        ..Options::new(&arguments.cache)
    };
    let mut cluster = Cluster::start(&options).await?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("proxy.toml");
    std::fs::write(&config, configuration(&cluster))?;
    let flags = ["--name-server", cluster.name_server(), "--config", &config.display().to_string()];
    let flags = flags.map(str::to_owned);
    let mut proxies = Vec::new();
    for _ in 0..PROXIES {
        proxies.push(Proxy::start(&arguments.proxy, &flags).await?);
    }
    let name = format!("fleet-{}", std::process::id());
    let types: Vec<_> =
        TYPES.into_iter().filter(|kind| !arguments.without.iter().any(|out| out == kind)).collect();
    make_topics(&arguments.proxy, proxies[0].address(), (&name, &types)).await?;
    for hung in hung {
        let topic = format!("{name}-{}-hangs", hung.name());
        admin(&arguments.proxy, proxies[0].address(), &["topic", "create", &topic]).await?;
    }
    let addresses = proxies.iter().map(|proxy| proxy.address().to_owned()).collect();
    let endpoint = balancer::start(addresses).await?;

    let load = Duration::from_secs(arguments.seconds);
    println!(
        "{} s of load on {PROXIES} proxies over {} brokers; fault: {:?}",
        load.as_secs(),
        arguments.brokers,
        arguments.fault
    );
    let topic = format!("{name}-normal");
    let ours = normal::run(&endpoint, &topic, (load, PATIENCE));
    let theirs = java(arguments, &endpoint, (&name, &types));
    let mixed = join_all(hung.iter().map(async |hung| {
        let topic = format!("{name}-{}-hangs", hung.name());
        mixed_group::run(&endpoint, &topic, (*hung, &arguments.classic_client), (load, PATIENCE)).await
    }));
    let every = Duration::from_secs(arguments.every);
    let faults = arguments.fault.strike((load, every), &mut proxies, &mut cluster);
    let (ours, mixed, theirs, killed) = tokio::join!(ours, mixed, theirs, faults);
    println!("{}", killed?);
    let (mut passed, mut failed) = (0, 0);
    for outcome in [ours].into_iter().chain(mixed) {
        match outcome {
            Ok(line) => {
                println!("passed {line}");
                passed += 1;
            }
            Err(error) => {
                println!("FAILED {error:#}");
                failed += 1;
            }
        }
    }
    let said = theirs?;
    print!("{said}");
    passed += u32::try_from(said.lines().filter(|line| line.starts_with("passed ")).count())?;
    failed += u32::try_from(said.lines().filter(|line| line.starts_with("FAILED ")).count())?;
    // One line of our own client, one for each group in which a consumer hangs, and one for each type of Apache's client.
    ensure!(
        usize::try_from(passed + failed)? == 1 + hung.len() + types.len(),
        "a message type is missing in the report"
    );
    Ok((passed, failed))
}

/// The configuration that all proxies share. Routes name the load balancer's port.
fn configuration(cluster: &Cluster) -> String {
    let common = "handle_key = 'fleet'\nroute_port = 'request'\n";
    match cluster.ca_file() {
        Some(ca_file) => format!(
            "{common}[backend.remote]\nca_file = '{}'\ncredentials = {{ access_key = '{ACCESS_KEY}', \
             secret_key = '{SECRET_KEY}' }}\n",
            ca_file.display()
        ),
        None => common.to_owned(),
    }
}

async fn make_topics(proxy: &Path, server: &str, (name, types): (&str, &[&str])) -> Result<()> {
    for kind in types.iter().chain(&["normal"]) {
        let topic = format!("{name}-{kind}");
        admin(proxy, server, &["topic", "create", &topic, "--type", kind]).await?;
        match *kind {
            "fifo" => admin(proxy, server, &["group", "create", &topic, "--fifo"]).await?,
            "lite" => admin(proxy, server, &["group", "create", &topic, "--lite-bind-topic", &topic]).await?,
            _ => {}
        }
    }
    Ok(())
}

async fn admin(proxy: &Path, server: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(proxy).args(arguments).args(["--server", server]).output().await?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Runs Apache's Java client with these types. It prints one result line for each.
async fn java(arguments: &Arguments, endpoint: &str, (name, types): (&str, &[&str])) -> Result<String> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/java/Fleet.java");
    let home = tempfile::tempdir()?;
    let mut java = Command::new("java");
    java.arg("-Xmx512m").arg(format!("-Duser.home={}", home.path().display()));
    java.arg("-cp").arg(arguments.java_client.trim()).arg(program);
    let fault = if arguments.fault.takes_queues_away() { "broker" } else { "proxies" };
    java.args([endpoint, name, &arguments.seconds.to_string(), &PATIENCE.as_secs().to_string(), fault]);
    java.arg(types.join(","));
    // The client writes its logs into the home directory.
    java.env("HOME", home.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = java.output().await.context("starting java")?;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "Apache's client failed:\n{said}\n{errors}");
    Ok(said.into_owned())
}
