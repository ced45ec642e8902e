//! `cluster up|down|status`: a real Apache RocketMQ on this machine, for people.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use cluster::{Cluster, Options, VERSION};
use serde::{Deserialize, Serialize};

const EXAMPLES: &str = "\
Examples:
  cargo x cluster up
      A name server and a broker of the newest version; says how to put the proxy in front of them.
  cargo x cluster up --brokers 2 --with-apache-proxy
      Two brokers, and Apache's own proxy for comparison.
  cargo x cluster down
      Ends them; their messages are gone.";

/// A real Apache RocketMQ, small: name server and brokers from Apache's packages on Maven Central
#[derive(Debug, Parser)]
#[command(name = "cargo x cluster", bin_name = "cargo x cluster", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Where everything lies
    #[arg(long, hide = true, global = true, default_value = "target/x/cluster")]
    folder: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start it; it runs on until `down`
    Up {
        /// How many brokers, each a master
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
        brokers: u8,
        /// Apache's version
        #[arg(long, default_value = VERSION)]
        version: String,
        /// Start Apache's own proxy, too
        #[arg(long)]
        with_apache_proxy: bool,
    },
    /// End it
    Down,
    /// Say what runs
    Status,
}

/// What was started.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: String,
    name_server: String,
    apache_proxy: Option<String>,
    ids: Vec<u32>,
}

#[expect(clippy::print_stderr, reason = "a command line program")]
#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command line program")]
async fn run(Arguments { verb, folder }: Arguments) -> Result<()> {
    let file = folder.join("state.json");
    let state = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok());
    let state = state.filter(|state| state.ids.iter().any(|id| runs_in(&folder, *id)));
    match verb {
        Verb::Up { brokers, version, with_apache_proxy } => {
            ensure!(state.is_none(), "it runs already: cargo x cluster status, or cargo x cluster down");
            let data = folder.join("data");
            if data.exists() {
                fs::remove_dir_all(&data)?;
            }
            fs::create_dir_all(&data)?;
            let cache = fs::canonicalize(&folder)?;
            let options = Options {
                brokers: brokers.into(),
                version: version.clone(),
                apache_proxy: with_apache_proxy,
                cache,
            };
            println!("starting Apache RocketMQ {version} (the first time its packages are fetched) …");
            let cluster = Cluster::start_detached(&options, &fs::canonicalize(&data)?).await?;
            let state = State {
                version,
                name_server: cluster.name_server().to_owned(),
                apache_proxy: cluster.apache_proxy().map(str::to_owned),
                ids: cluster.ids(),
            };
            fs::write(&file, serde_json::to_vec_pretty(&state)?)?;
            describe(&state);
            cluster.let_go();
        }
        Verb::Down => match state {
            Some(state) => {
                for id in state.ids.into_iter().filter(|id| runs_in(&folder, *id)) {
                    kill(id)?;
                }
                fs::remove_file(&file)?;
                println!("ended");
            }
            None => println!("nothing runs"),
        },
        Verb::Status => match state {
            Some(state) => describe(&state),
            None => println!("nothing runs; start it with cargo x cluster up"),
        },
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command line program")]
fn describe(State { version, name_server, apache_proxy, ids }: &State) {
    let ids = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let apache_proxy = apache_proxy.as_deref().unwrap_or("not started");
    println!("Apache RocketMQ {version} runs");
    println!("  name server      {name_server}");
    println!("  Apache's proxy   {apache_proxy}");
    println!("  processes        {ids}");
    println!("\nput the proxy in front of it:");
    println!(
        "  cargo run --release --package rocketmq-thin-proxy -- --name-server {name_server} --handle-key secret"
    );
    println!("create a topic (brokers make groups when they are named, never topics):");
    println!("  cargo run --release --package rocketmq-thin-proxy -- topic create orders");
    println!("end it:\n  cargo x cluster down");
}

/// Whether a process is one that was started in this folder; its number may be another's by now.
fn runs_in(folder: &Path, id: u32) -> bool {
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let folder = fs::canonicalize(folder).unwrap_or_default().display().to_string();
    !folder.is_empty() && String::from_utf8_lossy(&line).contains(&format!("-Duser.home={folder}"))
}

fn kill(id: u32) -> Result<()> {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw).context("no process id")?;
    rustix::process::kill_process(id, rustix::process::Signal::KILL).context("ending a process")
}
