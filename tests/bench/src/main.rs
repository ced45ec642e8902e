//! `cargo x bench`: CPU per 1 KiB message of the proxy and of each client, beside a raw tonic echo, in one
//! run. Figures of one run can be compared with each other; between runs the machine changes.

mod echo;
mod load;
mod process;
mod rust_client;
mod separated;
mod subject;
mod table;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Parser, Subcommand};
use load::Names;
use process::Process;
use subject::{Subject, Targets};
use table::{Spent, Table};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures the proxy and the clients.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// The proxy's binary.
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// A client to measure, as NAME=COMMAND; the proxy's address is added as the last argument.
    #[arg(long = "client")]
    clients: Vec<String>,
    /// Measure the proxy in front of a real broker instead, beside Apache's own; the list of Apache's jars is kept
    /// in this folder.
    #[arg(long)]
    cluster: Option<PathBuf>,
    /// Messages per workload.
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
}

/// What this binary is when the benchmark starts it again as another process.
#[derive(Subcommand)]
enum Role {
    /// The raw tonic echo.
    Echo,
    /// The Rust client at 32 in flight.
    RustClient {
        /// The proxy's address.
        endpoint: String,
    },
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match &arguments.role {
            Some(Role::Echo) => echo::serve().await,
            Some(Role::RustClient { endpoint }) => rust_client::run(endpoint).await,
            None => measure(&arguments).await,
        }
    })
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let proxy = arguments.proxy.as_ref().ok_or("--proxy PATH says which proxy to measure")?;
    match &arguments.cluster {
        Some(cache) => separated::measure(proxy, cache, arguments.messages).await,
        None => merged(proxy, arguments).await,
    }
}

/// The proxy with messages of its own, beside the echo, and the clients.
async fn merged(proxy: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let this = std::env::current_exe()?;
    let (table, messages) = (Table::begin(), arguments.messages);
    let subject = |name, (account, address), targets| Subject {
        name,
        account,
        address,
        names: Names::default(),
        warm_up: messages / 10,
        targets,
    };

    let mut echo = Command::new(&this);
    echo.arg("echo");
    let (server, address, _) = Process::serve(echo).await?;
    let echo = subject("raw tonic echo", (server.account(), address), Targets::all("the floor"));
    echo.sends(&table, messages).await?;
    drop(server);

    let data = tempfile::tempdir()?;
    let mut command = Command::new(proxy);
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path());
    let (server, address, started) = Process::serve(command).await?;
    let targets = Targets {
        serving: "100 ms",
        memory_at_start: "50 MB",
        memory_under_load: "-",
        send: "30",
        send_batch: "10",
        consume: "40",
        consume_batch: "12",
        latency: "p99 4 ms",
    };
    let proxy = subject("proxy", (server.account(), address), targets);
    proxy.started(&table, started)?;
    proxy.run(&table, messages).await?;

    clients(&table, arguments, &this, &proxy.address).await
}

/// The workloads of a client, and the targets for Rust and for the other languages. A push consumer may cost half as
/// much again as a simple one.
const WORKLOADS: &[(&str, &str, [&str; 2])] = &[
    ("send", "send, 32 in flight", ["24", "60"]),
    ("receive", "receive + ack, 32 in one", ["5", "12"]),
    ("push", "push consumer, empty handler", ["7.5", "18"]),
];

/// Prints the CPU per message of each client.
async fn clients(table: &Table, arguments: &Arguments, this: &PathBuf, address: &str) -> Result<(), Failure> {
    let mut commands = vec![("rust", {
        let mut command = Command::new(this);
        command.arg("rust-client");
        command
    })];
    for client in &arguments.clients {
        let (name, words) = client.split_once('=').ok_or("--client takes NAME=COMMAND")?;
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().ok_or("--client takes NAME=COMMAND")?);
        command.args(words);
        commands.push((name, command));
    }
    for (name, mut command) in commands {
        command.arg(address);
        let mut client = Process::start(command)?;
        expect(&mut client, "ready").await?;
        let messages = arguments.messages;
        for (workload, title, [rust, other]) in WORKLOADS {
            let (before, begin) = (client.account().cpu()?, Instant::now());
            client.stdin()?.write_all(format!("{workload} {messages}\n").as_bytes()).await?;
            expect(&mut client, "done").await?;
            let spent = Spent { cpu: client.account().cpu()? - before, wall: begin.elapsed(), messages };
            table.work(&format!("{name} client: {title}"), &spent, if name == "rust" { rust } else { other });
        }
    }
    Ok(())
}

async fn expect(client: &mut Process, word: &str) -> io::Result<()> {
    let line = client.line().await?;
    if line == word { Ok(()) } else { Err(io::Error::other(format!("expected \"{word}\", got \"{line}\""))) }
}
