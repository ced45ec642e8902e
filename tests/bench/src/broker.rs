//! The embedded broker with every send on the disk, beside Apache's local mode, which does not sync, and a NATS server,
//! which does. One server runs at a time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster::{Cluster, Options};
use tokio::process::Command;

use crate::Failure;
use crate::load::{Load, Names};
use crate::nats::Nats;
use crate::process::{Account, Process};
use crate::raw_append;
use crate::separated::create_names;
use crate::table::{Column, Columns, Spent};

/// What is measured.
pub(crate) struct Subjects<'a> {
    pub(crate) proxy: &'a Path,
    /// The folder that keeps the list of Apache's jars; without it Apache's local mode is left out.
    pub(crate) apache: Option<&'a Path>,
    /// A NATS server and its client; without them NATS is left out.
    pub(crate) nats: Option<&'a [PathBuf]>,
    pub(crate) messages: usize,
}

/// A workload. `Send` and `Receive` tell CPU and rate, the others latency.
#[derive(Clone, Copy)]
enum Workload {
    OneAtATime,
    Rate { per_second: usize, seconds: usize },
    Send { in_flight: usize },
    SendBatches { of: usize },
    Receive { batch: usize },
}

/// A server that runs.
struct Server<'a> {
    name: &'static str,
    account: Account,
    driver: Driver<'a>,
    /// Warm-up messages of the larger workloads.
    warm_up: usize,
}

/// What puts a server under load.
enum Driver<'a> {
    Grpc(&'a Load),
    Nats(&'a Nats),
}

const HIGH: usize = 256;
const ROWS: [(&str, Workload, &str); 7] = [
    ("one send at a time, p50 / p99", Workload::OneAtATime, "0.25 / 0.45 ms"),
    ("4000 sends a second, p50 / p99", Workload::Rate { per_second: 4000, seconds: 5 }, "p99 as NATS"),
    ("send, 64 in flight", Workload::Send { in_flight: 64 }, "20 us"),
    ("send, 32 in a request", Workload::SendBatches { of: 32 }, "4 us"),
    ("receive + ack one by one", Workload::Receive { batch: 1 }, "20 us"),
    ("receive + ack, 32 in one", Workload::Receive { batch: 32 }, "6 us"),
    ("send, 256 in flight", Workload::Send { in_flight: HIGH }, "70 % of the raw append"),
];

/// Measures all servers and prints the table.
pub(crate) async fn measure(subjects: &Subjects<'_>) -> Result<(), Failure> {
    let (folder, messages) = (tempfile::tempdir()?, subjects.messages);
    let raw = raw_append::rate(folder.path(), messages, HIGH).await?;
    let mut columns = vec![ours(subjects.proxy, folder.path(), messages).await?];
    if let Some(cache) = subjects.apache {
        columns.push(apaches(subjects.proxy, cache, messages).await?);
    }
    if let Some([server, client]) = subjects.nats {
        let nats = Nats::start(server, client, folder.path()).await?;
        let account = nats.process().account();
        let server = Server { name: "NATS", account, driver: Driver::Nats(&nats), warm_up: messages / 10 };
        columns.push(server.measure(messages).await?);
    }
    let rows: Vec<_> = ROWS.iter().map(|(name, _, target)| (*name, *target)).collect();
    Columns::print(&rows, &columns);
    Columns::note("raw append, 256 in flight", &format!("{raw:.0} msg/s"));
    for (name, is_left_out) in
        [("Apache's local mode", subjects.apache.is_none()), ("NATS", subjects.nats.is_none())]
    {
        if is_left_out {
            Columns::note(name, "left out: it could not be had");
        }
    }
    Ok(())
}

async fn ours(proxy: &Path, folder: &Path, messages: usize) -> Result<Column, Failure> {
    let mut command = Command::new(proxy);
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.join("data"));
    let (process, address, _) = Process::serve(command).await?;
    let load = Load::connect(&address, &Names::default()).await?;
    let (account, driver) = (process.account(), Driver::Grpc(&load));
    Server { name: "ours", account, driver, warm_up: messages / 10 }.measure(messages).await
}

async fn apaches(proxy: &Path, cache: &Path, messages: usize) -> Result<Column, Failure> {
    let cluster = Cluster::start(&Options { local: true, ..Options::new(cache) }).await?;
    let names = Names::default();
    create_names(proxy, &cluster, &names).await?;
    let account = Account::of(cluster.apache_proxy_id().ok_or("Apache's proxy has ended")?);
    let address = cluster.apache_proxy().ok_or("there is no Apache proxy")?;
    let load = Load::connect(address, &names).await?;
    load.serving(Duration::from_secs(60)).await?;
    let _registered = load.register().await?;
    let driver = Driver::Grpc(&load);
    // The JVM compiles hot code during the warm-up.
    Server { name: "Apache's, not synced", account, driver, warm_up: messages }.measure(messages).await
}

impl Server<'_> {
    /// Runs all workloads.
    async fn measure(&self, messages: usize) -> Result<Column, Failure> {
        let Self { name, account, driver, warm_up } = self;
        let mut figures = Vec::new();
        for (_, workload, _) in ROWS {
            let messages = workload.messages(messages);
            if !driver.can(workload) {
                figures.push("-".to_owned());
                continue;
            }
            let warmed_up = driver.run(workload, workload.messages(*warm_up)).await;
            let (cpu, begin) = (account.cpu()?, Instant::now());
            let times = match warmed_up {
                Ok(_) => driver.run(workload, messages).await,
                failed => failed,
            };
            let times = match times {
                // On a busy machine sends come faster than they are stored.
                Err(_) if matches!(workload, Workload::Rate { .. }) => {
                    figures.push("overloaded".to_owned());
                    continue;
                }
                times => times?,
            };
            let spent = Spent { cpu: account.cpu()? - cpu, wall: begin.elapsed(), messages };
            figures.push(match times {
                Some([median, high]) => format!("{} / {} ms", millis(median), millis(high)),
                None => format!("{:.1} us {:.0} msg/s", spent.micros(), spent.rate()),
            });
        }
        Ok(Column { name, figures })
    }
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

impl Workload {
    /// How many messages it has if the others have so many.
    fn messages(self, messages: usize) -> usize {
        match self {
            Self::OneAtATime => messages / 20,
            Self::Rate { per_second, seconds } => per_second * seconds,
            // A few messages are left, so that no consumer waits for the last ones.
            Self::Receive { .. } => messages * 4 / 5,
            Self::Send { .. } | Self::SendBatches { .. } => messages,
        }
    }

    fn tells_latency(self) -> bool {
        matches!(self, Self::OneAtATime | Self::Rate { .. })
    }
}

impl Driver<'_> {
    fn can(&self, workload: Workload) -> bool {
        // NATS has no requests with several messages.
        !matches!((self, workload), (Self::Nats(_), Workload::SendBatches { .. }))
    }

    /// Returns the 50th and 99th percentile, if that is what the workload tells.
    async fn run(&self, workload: Workload, messages: usize) -> Result<Option<[Duration; 2]>, Failure> {
        match self {
            Self::Grpc(load) => grpc(load, workload, messages).await,
            Self::Nats(nats) => {
                let times = match workload {
                    Workload::OneAtATime => nats.run("publish", [1, messages]).await?,
                    Workload::Rate { per_second, seconds } => nats.run("rate", [per_second, seconds]).await?,
                    Workload::Send { in_flight } => nats.run("publish", [in_flight, messages]).await?,
                    Workload::Receive { batch } => nats.run("consume", [batch, messages]).await?,
                    Workload::SendBatches { .. } => return Ok(None),
                };
                Ok(workload.tells_latency().then_some(times))
            }
        }
    }
}

async fn grpc(load: &Load, workload: Workload, messages: usize) -> Result<Option<[Duration; 2]>, Failure> {
    let mut times = match workload {
        Workload::OneAtATime => load.send_timed(messages).await?,
        Workload::Rate { per_second, seconds } => {
            load.send_at(u32::try_from(per_second)?, Duration::from_secs(seconds as u64)).await?
        }
        Workload::Send { in_flight } => return load.send(messages, 1, in_flight).await.map(|()| None),
        Workload::SendBatches { of } => return load.send(messages, of, 8).await.map(|()| None),
        Workload::Receive { batch } => return load.consume(messages, batch, 16).await.map(|()| None),
    };
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Some([at(0.5), at(0.99)]))
}
