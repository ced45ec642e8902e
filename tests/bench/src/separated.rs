//! Our proxy and Apache's in front of the same brokers, one after the other, under the same load.

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::process::Command;

use crate::Failure;
use crate::load::{Load, Names};
use crate::process::Process;
use crate::subject::{Subject, Targets};
use crate::table::Table;

/// How long a proxy may take to serve.
const START: Duration = Duration::from_secs(60);

/// Apache's proxy: where it serves, and what starts it.
#[derive(Clone, Debug)]
pub(crate) struct ApacheProxy {
    address: String,
    command: String,
}

impl FromStr for ApacheProxy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, command) = text.split_once('=').ok_or("ADDRESS=COMMAND is expected")?;
        Ok(Self { address: address.to_owned(), command: command.to_owned() })
    }
}

/// Prints the table of both.
pub(crate) async fn measure(
    proxy: &Path,
    name_server: &str,
    apache: Option<&ApacheProxy>,
    messages: usize,
) -> Result<(), Failure> {
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let names =
        |whose: &str| Names { topic: format!("bench-{whose}-{run}"), group: format!("bench-{whose}-{run}") };
    let (our_names, apaches) = (names("thin"), names("apache"));
    prepare(proxy, name_server, &[&our_names, &apaches], messages).await?;

    let table = Table::begin();
    let begin = Instant::now();
    let (process, address, _) = Process::serve(ours(proxy, name_server)).await?;
    let targets = Targets {
        serving: "200 ms",
        memory_under_load: "60 MB",
        send: "40",
        send_batch: "8",
        ..Targets::all("-")
    };
    let subject =
        Subject { name: "proxy", process, address, names: our_names, warm_up: messages / 10, targets };
    side(&table, subject, begin, messages).await?;

    let Some(apache) = apache else { return Ok(()) };
    let mut words = apache.command.split_whitespace();
    let mut command = Command::new(words.next().ok_or("the command of Apache's proxy is empty")?);
    command.args(words);
    let begin = Instant::now();
    let process = Process::start(command)?;
    let subject = Subject {
        name: "Apache's",
        process,
        address: apache.address.clone(),
        names: apaches,
        // Its virtual machine compiles what runs often; the figures are of compiled code.
        warm_up: messages,
        targets: Targets::all("-"),
    };
    side(&table, subject, begin, messages).await
}

fn ours(proxy: &Path, name_server: &str) -> Command {
    let mut command = Command::new(proxy);
    command.args(["--listen", "127.0.0.1:0", "--name-server", name_server, "--handle-key", "bench"]);
    command
}

/// Makes the topics, and warms up the brokers: they are not what is measured.
async fn prepare(proxy: &Path, name_server: &str, names: &[&Names], messages: usize) -> Result<(), Failure> {
    let (_process, address, _) = Process::serve(ours(proxy, name_server)).await?;
    for names in names {
        let create = ["topic", "create", &names.topic, "--server", &address];
        let created = Command::new(proxy).args(create).stdout(std::process::Stdio::null()).status().await?;
        if !created.success() {
            return Err("the topic could not be created".into());
        }
    }
    let warm_up = names.last().ok_or("no topic")?;
    let load = Load::connect(&address, warm_up).await?;
    load.serving(START).await?;
    load.send(messages, 1, 64).await?;
    load.consume(messages * 9 / 10, 32, 16).await
}

/// One proxy's rows.
async fn side(table: &Table, subject: Subject, begin: Instant, messages: usize) -> Result<(), Failure> {
    await_service(&subject, begin).await?;
    subject.started(table, begin.elapsed())?;
    subject.run(table, messages).await
}

/// Waits until a proxy, its port included, answers.
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
