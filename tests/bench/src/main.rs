//! `cargo x bench`: CPU per 1 KiB message of the proxy and of each client, beside a raw tonic echo, in one
//! run. Figures of one run can be compared with each other; between runs the machine changes.

mod echo;
mod load;
mod process;
mod rust_client;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use load::Load;
use process::Process;
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
    let this = std::env::current_exe()?;
    let table = Table::begin();

    let mut echo = Command::new(&this);
    echo.arg("echo");
    let (echo, address, _) = Process::serve(echo).await?;
    let echo = Subject { name: "raw tonic echo", process: echo, address };
    echo.sends(&table, arguments.messages).await?;
    drop(echo);

    let data = tempfile::tempdir()?;
    let mut command = Command::new(proxy);
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path());
    let (server, address, started) = Process::serve(command).await?;
    table.row("proxy: serving after", format!("{:.0} ms", millis(started)), "100 ms");
    table.row("proxy: resident at start", format!("{:.0} MB", server.resident_mib()? * 1.048_576), "50 MB");
    let proxy = Subject { name: "proxy", process: server, address };
    proxy.sends(&table, arguments.messages).await?;
    proxy.consumes(&table, arguments.messages).await?;
    proxy.latency(&table).await?;
    table.row(
        "proxy: resident after load",
        format!("{:.0} MB", proxy.process.resident_mib()? * 1.048_576),
        "-",
    );

    clients(&table, arguments, &this, &proxy.address).await?;
    Ok(())
}

/// A server under measurement.
struct Subject {
    name: &'static str,
    process: Process,
    address: String,
}

/// CPU and time used by a workload.
struct Spent {
    cpu: Duration,
    wall: Duration,
    messages: usize,
}

impl Subject {
    /// Sends one by one and in requests of 32.
    async fn sends(&self, table: &Table, messages: usize) -> Result<(), Failure> {
        let load = Load::connect(&self.address).await?;
        load.send(messages / 10, 1, 64).await?;
        for (label, per_request, in_flight, target) in
            [("send, 64 in flight", 1, 64, "30"), ("send, 32 in a request", 32, 8, "10")]
        {
            let spent = spent(&self.process, messages, load.send(messages, per_request, in_flight)).await?;
            let target = if self.name == "proxy" { target } else { "the floor" };
            table.work(&format!("{}: {label}", self.name), &spent, target);
        }
        Ok(())
    }

    /// Receives and acknowledges what the sends left behind, first one by one, then 32 at a time.
    async fn consumes(&self, table: &Table, messages: usize) -> Result<(), Failure> {
        let load = Load::connect(&self.address).await?;
        load.consume(messages / 10, 1, 16).await?;
        for (label, batch, target) in
            [("receive + ack one by one", 1, "40"), ("receive + ack, 32 in one", 32, "12")]
        {
            let messages = messages * 9 / 10;
            let spent = spent(&self.process, messages, load.consume(messages, batch, 16)).await?;
            table.work(&format!("{}: {label}", self.name), &spent, target);
        }
        Ok(())
    }

    /// Sends at a fixed rate, for the latency's 50th and 99th percentile.
    async fn latency(&self, table: &Table) -> Result<(), Failure> {
        let load = Load::connect(&self.address).await?;
        load.send_at(1000, Duration::from_secs(1)).await?;
        let mut times = load.send_at(1000, Duration::from_secs(5)).await?;
        times.sort();
        let at = |share: f64| millis(times[((times.len() - 1) as f64 * share) as usize]);
        let what = format!("{}: 1000 sends a second, p50 / p99", self.name);
        table.row(&what, format!("{:.2} / {:.2} ms", at(0.5), at(0.99)), "p99 4 ms");
        Ok(())
    }
}

/// Runs a workload and reads what a process used for it.
async fn spent(
    process: &Process,
    messages: usize,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<Spent, Failure> {
    let (before, begin) = (process.cpu()?, Instant::now());
    work.await?;
    Ok(Spent { cpu: process.cpu()? - before, wall: begin.elapsed(), messages })
}

/// Each client sends one by one at 32 in flight; prints the client's CPU per message.
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
        let (before, begin, messages) = (client.cpu()?, Instant::now(), arguments.messages);
        client.stdin()?.write_all(format!("{messages}\n").as_bytes()).await?;
        expect(&mut client, "done").await?;
        let spent = Spent { cpu: client.cpu()? - before, wall: begin.elapsed(), messages };
        let target = if name == "rust" { "24" } else { "60" };
        table.work(&format!("{name} client: send, 32 in flight"), &spent, target);
    }
    Ok(())
}

async fn expect(client: &mut Process, word: &str) -> io::Result<()> {
    let line = client.line().await?;
    if line == word { Ok(()) } else { Err(io::Error::other(format!("expected \"{word}\", got \"{line}\""))) }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The printed table: what, figure, target.
struct Table;

#[allow(clippy::print_stdout)]
impl Table {
    fn begin() -> Self {
        let table = Self;
        table.row("what (CPU is the measured process's, per 1 KiB message)", "figure".to_owned(), "to reach");
        table
    }

    fn row(&self, what: &str, figure: String, target: &str) {
        println!("{what:<56} {figure:>26}   {target}");
    }

    fn work(&self, what: &str, spent: &Spent, target: &str) {
        let micros = spent.cpu.as_secs_f64() * 1e6 / spent.messages as f64;
        let rate = spent.messages as f64 / spent.wall.as_secs_f64();
        self.row(what, format!("{micros:.1} us  {rate:>8.0} msg/s"), target);
    }
}
