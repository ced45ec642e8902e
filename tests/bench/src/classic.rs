//! What a message costs a server that Apache's classic Java client is connected to: our proxy, merged and separated, beside
//! Apache's broker and Apache's proxy. One server is under load at a time.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cluster::{Cluster, Options};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::Failure;
use crate::load::Names;
use crate::process::{Account, Process};
use crate::separated::{create, create_names, ours};
use crate::table::{Column, Columns, Spent};

/// A workload that takes longer hangs.
const HANG: Duration = Duration::from_secs(900);
const ROWS: [(&str, &str); 3] = [
    ("send, 64 in flight", ""),
    ("consume, a push consumer", ""),
    ("both", "half of the broker's, a quarter of the proxy's"),
];
/// Beside [`separated`](crate::separated), this proxy is a name server.
const REMOTING: [&str; 2] = ["--remoting", "true"];

/// What is measured, and with what.
pub(crate) struct Subjects<'a> {
    pub(crate) proxy: &'a Path,
    /// The folder that keeps the list of Apache's jars.
    pub(crate) cache: &'a Path,
    /// The class path of Apache's classic client.
    pub(crate) class_path: &'a str,
    /// The source file of the program on it.
    pub(crate) program: &'a Path,
    pub(crate) messages: usize,
}

/// A server to measure.
struct Server {
    name: &'static str,
    account: Account,
    /// Where the client finds its name server.
    address: String,
    topic: &'static str,
}

/// Measures all servers and prints the table.
pub(crate) async fn measure(subjects: &Subjects<'_>) -> Result<(), Failure> {
    let mut columns = Vec::new();
    {
        let data = tempfile::tempdir()?;
        let configuration = data.path().join("proxy.toml");
        // Apache's broker flushes in the background, too.
        std::fs::write(&configuration, "[backend.embedded]\nflush = 'async'\n")?;
        let mut command = Command::new(subjects.proxy);
        command.arg("--config").arg(&configuration).args(["--listen", "127.0.0.1:0"]).args(REMOTING);
        command.arg("--data-dir").arg(data.path().join("data"));
        let (process, address, _) = Process::serve(command).await?;
        let topic = "classic-merged";
        create(subjects.proxy, &address, ["topic", topic]).await?;
        let server = Server { name: "merged", account: process.account(), address, topic };
        columns.push(server.measure(subjects).await?);
    }
    let options = Options { apache_proxy: true, ..Options::new(subjects.cache) };
    let cluster = Cluster::start(&options).await?;
    let broker = Account::of(cluster.broker_id(0).ok_or("the broker has ended")?);
    let topics = ["classic-broker", "classic-separated", "classic-proxy"];
    for topic in topics {
        let names = Names { topic: topic.to_owned(), group: topic.to_owned() };
        create_names(subjects.proxy, &cluster, &names).await?;
    }
    let [topic, separated, behind_proxy] = topics;
    let address = cluster.name_server().to_owned();
    let server = Server { name: "Apache's broker", account: broker, address, topic };
    columns.push(server.measure(subjects).await?);
    {
        let mut command = ours(subjects.proxy, &cluster);
        command.args(REMOTING);
        let (process, address, _) = Process::serve(command).await?;
        let server = Server { name: "separated", account: process.account(), address, topic: separated };
        columns.push(server.measure(subjects).await?);
    }
    let account = Account::of(cluster.apache_proxy_id().ok_or("Apache's proxy has ended")?);
    let address = cluster.apache_proxy_remoting().ok_or("there is no Apache proxy")?.to_owned();
    let server = Server { name: "Apache's proxy", account, address, topic: behind_proxy };
    columns.push(server.measure(subjects).await?);
    Columns::print(&ROWS, &columns);
    Ok(())
}

impl Server {
    /// Sends and consumes, first to warm up: a JVM compiles what it finds to be hot.
    async fn measure(&self, subjects: &Subjects<'_>) -> Result<Column, Failure> {
        let mut command = Command::new("java");
        command.arg(format!("-Duser.home={}", subjects.cache.display()));
        command.args(["-cp", subjects.class_path]).arg(subjects.program);
        command.args([&self.address, self.topic]).stderr(Stdio::null());
        let mut client = Process::start(command)?;
        expect(&mut client, "ready").await?;
        for workload in ["send", "consume"] {
            run(&mut client, workload, subjects.messages).await?;
        }
        let mut figures = Vec::new();
        let mut both = Duration::ZERO;
        for workload in ["send", "consume"] {
            let (before, begin) = (self.account.cpu()?, Instant::now());
            run(&mut client, workload, subjects.messages).await?;
            let cpu = self.account.cpu()? - before;
            both += cpu;
            let spent = Spent { cpu, wall: begin.elapsed(), messages: subjects.messages };
            figures.push(format!("{:.1} us {:.0} msg/s", spent.micros(), spent.rate()));
        }
        let micros = both.as_secs_f64() * 1e6 / subjects.messages as f64;
        figures.push(format!("{micros:.1} us"));
        Ok(Column { name: self.name, figures })
    }
}

async fn run(client: &mut Process, workload: &str, messages: usize) -> Result<(), Failure> {
    client.stdin()?.write_all(format!("{workload} {messages}\n").as_bytes()).await?;
    expect(client, "done").await
}

async fn expect(client: &mut Process, word: &str) -> Result<(), Failure> {
    let line = timeout(HANG, client.line()).await.map_err(|_| format!("no {word} in time"))??;
    if line == word { Ok(()) } else { Err(format!("the client says {line:?}").into()) }
}
