//! `cargo x bench`: CPU per 1 KiB message of the proxy and of each client, beside a raw tonic echo, in one
//! run. Figures of one run can be compared with each other; between runs the machine changes. So figures of clients
//! are also given as multiples of what the echo costs in the same run.

mod broker;
mod classic;
mod clients;
mod earlier;
mod echo;
mod footprint;
mod limits;
mod load;
mod nats;
mod process;
mod raw_append;
mod rust_client;
mod separated;
mod subject;
mod table;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use clients::Client;
use load::Names;
use process::Process;
use subject::{Subject, Targets};
use table::Table;
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
    /// A JSON file with the clients to measure, see `clients::Client`.
    #[arg(long)]
    clients: Option<PathBuf>,
    /// Measure nothing but the clients.
    #[arg(long)]
    only_clients: bool,
    /// Measure the proxy in front of a real broker instead, beside Apache's own; the list of Apache's jars is kept
    /// in this folder.
    #[arg(long)]
    cluster: Option<PathBuf>,
    /// Measure the embedded broker instead, beside Apache's local mode if `--cluster` is given, and NATS.
    #[arg(long)]
    broker: bool,
    /// Measure how well quotas hold instead, and what a client beyond its quota costs another one. With `--cluster` also in a fleet.
    #[arg(long)]
    limits: bool,
    /// Measure this proxy beside an earlier build of it instead.
    #[arg(long, value_name = "PROXY")]
    earlier: Option<PathBuf>,
    /// Measure what Apache's classic client costs servers instead; its class path, and the program on it. Needs `--cluster`.
    #[arg(long, num_args = 2, value_names = ["CLASS_PATH", "PROGRAM"], requires = "cluster")]
    classic: Option<Vec<String>>,
    /// A NATS server and the program in `nats`, for `--broker`.
    #[arg(long, num_args = 2, value_names = ["SERVER", "CLIENT"])]
    nats: Option<Vec<PathBuf>>,
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
        /// `idle N` for idle clients, and the proxy's address.
        #[arg(required = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match &arguments.role {
            Some(Role::Echo) => echo::serve().await,
            Some(Role::RustClient { arguments }) => {
                let arguments = arguments.clone();
                // As applications call a client: from a task of the runtime. This thread is not one of its workers.
                tokio::spawn(async move {
                    match &arguments[..] {
                        [_, count, endpoint] => rust_client::idle(endpoint, count.parse()?).await,
                        [endpoint, ..] => rust_client::run(endpoint).await,
                        [] => Err("no address".into()),
                    }
                })
                .await?
            }
            None => measure(&arguments).await,
        }
    })
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let proxy = arguments.proxy.as_ref().ok_or("--proxy PATH says which proxy to measure")?;
    let messages = arguments.messages;
    if let Some(earlier) = &arguments.earlier {
        return earlier::measure(proxy, earlier, messages).await;
    }
    if arguments.limits {
        return limits::measure(proxy, arguments.cluster.as_deref()).await;
    }
    if arguments.broker {
        let (apache, nats) = (arguments.cluster.as_deref(), arguments.nats.as_deref());
        return broker::measure(&broker::Subjects { proxy, apache, nats, messages }).await;
    }
    if let (Some([class_path, program]), Some(cache)) = (arguments.classic.as_deref(), &arguments.cluster) {
        let program = Path::new(program);
        return classic::measure(&classic::Subjects { proxy, cache, class_path, program, messages }).await;
    }
    match &arguments.cluster {
        Some(cache) => separated::measure(proxy, cache, messages).await,
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
    let (echo_server, address, _) = Process::serve(echo).await?;
    let echo = subject("raw tonic echo", (echo_server.account(), address), Targets::all("the floor"));
    if !arguments.only_clients {
        echo.sends(&table, messages).await?;
    }

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
    if !arguments.only_clients {
        proxy.started(&table, started)?;
        proxy.run(&table, messages).await?;
    }
    let Some(list) = &arguments.clients else { return Ok(()) };
    let clients: Vec<Client> = serde_json::from_slice(&std::fs::read(list)?)?;
    clients::measure(&clients, &echo, &proxy.address, messages / 5).await?;
    footprint::measure(&clients, &proxy.address).await
}
