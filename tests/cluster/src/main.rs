//! `cluster up|down|status`: starts and stops an Apache RocketMQ cluster on this machine.

mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use cluster::{ACCESS_KEY, Certificates, Cluster, Options, SECRET_KEY, VERSION};
use serde::{Deserialize, Serialize};

use processes::Processes;

const EXAMPLES: &str = "\
Examples:
  cargo x cluster up
      A name server and a broker of the newest version; says how to put the proxy in front of them.
  cargo x cluster up --brokers 2 --with-apache-proxy
      Two brokers, and Apache's own proxy for comparison.
  cargo x cluster down
      Ends them; their messages are gone.";

/// A small Apache RocketMQ cluster: name servers and brokers from Apache's Maven packages
#[derive(Debug, Parser)]
#[command(name = "cargo x cluster", bin_name = "cargo x cluster", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The folder of its configuration, data and logs
    #[arg(long, hide = true, global = true, default_value = "target/x/cluster")]
    folder: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start the cluster; it runs until `down`
    Up {
        /// Number of brokers; each is a master
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
        brokers: u8,
        /// Apache's version
        #[arg(long, default_value = VERSION)]
        version: String,
        /// Number of name servers
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
        name_servers: u8,
        /// Start Apache's own proxy, too
        #[arg(long, conflicts_with = "guarded")]
        with_apache_proxy: bool,
        /// Brokers require TLS and signatures
        #[arg(long)]
        guarded: bool,
        /// Brokers and Apache's proxy require signatures and check rights, without TLS
        #[arg(long, conflicts_with = "guarded")]
        signed: bool,
    },
    /// Stop the cluster
    Down,
    /// Show the running cluster
    Status,
    /// Write a certificate for a server at 127.0.0.1, its key, and the authority that signed it
    #[command(hide = true)]
    Certificates,
}

/// A started cluster, as `up` saves it for `status`.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: String,
    name_server: String,
    apache_proxy: Option<String>,
    /// Its address for the remoting protocol.
    #[serde(default)]
    apache_proxy_remoting: Option<String>,
    /// The certificate to trust, if the cluster is guarded.
    ca_file: Option<PathBuf>,
    /// Whether servers require signatures.
    #[serde(default)]
    has_users: bool,
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
    fs::create_dir_all(&folder)?;
    let folder = fs::canonicalize(&folder)?;
    let (file, data) = (folder.join("state.json"), folder.join("data"));
    let (processes, state) = (Processes::of(&data), State::read(&file));
    match verb {
        Verb::Up { brokers, version, name_servers, with_apache_proxy, guarded, signed } => {
            ensure!(
                processes.is_empty(),
                "a cluster is running already: see cargo x cluster status, or stop it with cargo x cluster down"
            );
            if data.exists() {
                fs::remove_dir_all(&data)?;
            }
            fs::create_dir_all(&data)?;
            if state.is_some() {
                // Left by an earlier cluster.
                fs::remove_file(&file)?;
            }
            let options = Options {
                name_servers: name_servers.into(),
                brokers: brokers.into(),
                version: version.clone(),
                apache_proxy: with_apache_proxy,
                guarded,
                signed,
                ..Options::new(&folder)
            };
            println!("starting Apache RocketMQ {version} (the first time its packages are fetched) …");
            let cluster = Cluster::start_detached(&options, &data).await?;
            let state = State {
                version,
                name_server: cluster.name_server().to_owned(),
                apache_proxy: cluster.apache_proxy().map(str::to_owned),
                apache_proxy_remoting: cluster.apache_proxy_remoting().map(str::to_owned),
                ca_file: cluster.ca_file().map(Path::to_owned),
                has_users: guarded || signed,
            };
            fs::write(&file, serde_json::to_vec_pretty(&state)?)?;
            state.describe(&Processes::of(&data));
            cluster.detach();
        }
        Verb::Down if processes.is_empty() => println!("no cluster is running"),
        Verb::Down => {
            processes.end()?;
            if state.is_some() {
                fs::remove_file(&file)?;
            }
            println!("stopped");
        }
        Verb::Status => match state.filter(|_| !processes.is_empty()) {
            Some(state) => state.describe(&processes),
            None if processes.is_empty() => {
                println!("no cluster is running; start one with cargo x cluster up")
            }
            None => println!(
                "a cluster is starting, or its start was interrupted; stop it with cargo x cluster down"
            ),
        },
        Verb::Certificates => drop(Certificates::generate(&folder)?),
    }
    Ok(())
}

impl State {
    fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    #[expect(clippy::print_stdout, reason = "a command line program")]
    fn describe(&self, processes: &Processes) {
        let Self { version, name_server, apache_proxy, apache_proxy_remoting, ca_file, has_users } = self;
        const PROXY: &str = "cargo run --release --package rocketmq-thin-proxy --";
        println!("Apache RocketMQ {version} is running");
        println!("  name server      {name_server}");
        println!("  Apache's proxy   {}", apache_proxy.as_deref().unwrap_or("not started"));
        if let Some(remoting) = apache_proxy_remoting {
            println!("    for remoting   {remoting}");
        }
        println!("  processes        {processes}");
        println!("\nput the proxy in front of it:");
        if *has_users {
            println!("  {PROXY} --name-server '{name_server}' --handle-key secret --config proxy.toml");
            println!("with this in proxy.toml:");
            println!("  [backend.remote]");
            if let Some(ca_file) = ca_file {
                println!("  ca_file = '{}'", ca_file.display());
            }
            println!("  credentials = {{ access_key = '{ACCESS_KEY}', secret_key = '{SECRET_KEY}' }}");
        } else {
            println!("  {PROXY} --name-server '{name_server}' --handle-key secret");
        }
        println!("create a topic (brokers create groups on first use, but not topics):");
        println!("  {PROXY} topic create orders");
        println!("stop it:\n  cargo x cluster down");
    }
}
