//! Measures our proxy and Apache's in front of the same broker, one after the other, under the same load.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cluster::{Cluster, Options};
use tokio::process::Command;

use crate::Failure;
use crate::load::{Load, Names};
use crate::process::{Account, Process};
use crate::subject::{Subject, Targets};
use crate::table::Table;

/// The time limit of a proxy's start.
const START: Duration = Duration::from_secs(60);

/// Starts a broker, measures both proxies and prints the table.
pub(crate) async fn measure(proxy: &Path, cache: &Path, messages: usize) -> Result<(), Failure> {
    let mut cluster = Cluster::start(&Options { apache_proxy: true, ..Options::new(cache) }).await?;
    let (our_names, apaches) = (names("bench-thin"), names("bench-apache"));
    prepare(proxy, &cluster, &[&our_names, &apaches], messages).await?;

    let table = Table::begin();
    let begin = Instant::now();
    let (process, address, _) = Process::serve(ours(proxy, &cluster)).await?;
    let subject = Subject {
        name: "proxy",
        account: process.account(),
        address,
        names: our_names,
        warm_up: messages / 10,
        targets: Targets {
            serving: "200 ms",
            memory_under_load: "60 MB",
            send: "40",
            send_batch: "8",
            ..Targets::all("-")
        },
    };
    side(&table, subject, begin, messages).await?;
    drop(process);

    let begin = Instant::now();
    cluster.restart_apache_proxy().await?;
    let subject = Subject {
        name: "Apache's",
        account: Account::of(cluster.apache_proxy_id().ok_or("Apache's proxy has ended")?),
        address: cluster.apache_proxy().ok_or("there is no Apache proxy")?.to_owned(),
        names: apaches,
        // The JVM compiles hot code during the warm-up, so that compiled code is measured.
        warm_up: messages,
        targets: Targets::all("-"),
    };
    side(&table, subject, begin, messages).await
}

fn names(name: &str) -> Names {
    Names { topic: name.to_owned(), group: name.to_owned() }
}

/// Our proxy in front of a cluster.
pub(crate) fn ours(proxy: &Path, cluster: &Cluster) -> Command {
    let mut command = Command::new(proxy);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--handle-key",
        "bench",
        "--name-server",
        cluster.name_server(),
    ]);
    command
}

/// Creates the topics and warms up the broker, which is not measured.
async fn prepare(proxy: &Path, cluster: &Cluster, names: &[&Names], messages: usize) -> Result<(), Failure> {
    let (_process, address, _) = Process::serve(ours(proxy, cluster)).await?;
    for names in names {
        create(proxy, &address, ["topic", &names.topic]).await?;
    }
    let warm_up = names.last().ok_or("no topic")?;
    let load = Load::connect(&address, warm_up).await?;
    load.serving(START).await?;
    load.send(messages, 1, 64).await?;
    load.consume(messages * 9 / 10, 32, 16).await
}

/// Creates a topic and a group on the cluster.
pub(crate) async fn create_names(proxy: &Path, cluster: &Cluster, names: &Names) -> Result<(), Failure> {
    let (_process, address, _) = Process::serve(ours(proxy, cluster)).await?;
    create(proxy, &address, ["topic", &names.topic]).await?;
    create(proxy, &address, ["group", &names.group]).await
}

/// Creates a topic or a group through a proxy of ours.
pub(crate) async fn create(proxy: &Path, address: &str, [what, name]: [&str; 2]) -> Result<(), Failure> {
    let mut create = Command::new(proxy);
    create.args([what, "create", name, "--server", address]).stdout(Stdio::null());
    if create.status().await?.success() { Ok(()) } else { Err(format!("no {what} could be created").into()) }
}

/// Measures one proxy and prints its rows.
async fn side(table: &Table, subject: Subject, begin: Instant, messages: usize) -> Result<(), Failure> {
    await_service(&subject, begin).await?;
    subject.started(table, begin.elapsed())?;
    subject.run(table, messages).await
}

/// Waits until a proxy answers on its port.
async fn await_service(subject: &Subject, begin: Instant) -> Result<(), Failure> {
    loop {
        if let Ok(load) = Load::connect(&subject.address, &subject.names).await {
            return load.serving(START.saturating_sub(begin.elapsed())).await;
        }
        if begin.elapsed() > START {
            return Err(format!("{} does not serve", subject.name).into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
