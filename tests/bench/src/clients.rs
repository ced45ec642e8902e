//! The clients under the same workloads, ours and Apache's in turn.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::Failure;
use crate::process::Process;
use crate::subject::Subject;
use crate::table::{Beside, Spent};

/// How often each workload is measured; the medians are printed.
const ROUNDS: usize = 3;
/// The time limit of a workload, and of a start with its warm-up.
const HANG: Duration = Duration::from_secs(90);
/// Apache's clients get this part of the messages: they send one in a request.
const FEWER: usize = 5;

/// A measured client, as `cargo x bench` lists it.
#[derive(Deserialize)]
pub(crate) struct Client {
    /// The language.
    pub(crate) language: String,
    pub(crate) ours: Side,
    pub(crate) apache: Side,
}

/// The client of one project in a language.
#[derive(Deserialize)]
pub(crate) struct Side {
    /// The program with its arguments. The address of the proxy is added, or `idle`, a number and the address.
    pub(crate) command: Vec<String>,
    /// Whether its standard error is dropped, because it logs there.
    #[serde(default)]
    pub(crate) quiet: bool,
    /// Why there is no program.
    pub(crate) missing: Option<String>,
    /// A program that only loads the package.
    pub(crate) import: Option<Vec<String>>,
    /// The size of the installed packages, in bytes, and how many there are.
    pub(crate) installed: Option<(u64, usize)>,
}

impl Side {
    /// Starts the program with arguments.
    pub(crate) async fn start(&self, arguments: &[&str]) -> Result<Process, String> {
        if let Some(reason) = &self.missing {
            return Err(reason.clone());
        }
        let (program, fixed) = self.command.split_first().ok_or("no program")?;
        let mut command = Command::new(program);
        command.args(fixed).args(arguments);
        if self.quiet {
            command.stderr(Stdio::null());
        }
        let mut process = Process::start(command).map_err(|error| error.to_string())?;
        expect(&mut process, "ready").await?;
        Ok(process)
    }
}

/// A workload, and its targets as multiples of the echo: for Rust, for Python and Node, and for Kotlin.
struct Workload {
    key: &'static str,
    title: &'static str,
    targets: Option<[f64; 3]>,
}

/// 5, 12 and 15 us where the echo costs 10.2 us.
const TARGETS: Option<[f64; 3]> = Some([0.49, 1.18, 1.47]);

const WORKLOADS: &[Workload] = &[
    Workload { key: "send", title: "send, 32 in flight", targets: TARGETS },
    Workload { key: "receive", title: "receive + ack, 32 in one", targets: TARGETS },
    // Relative to receive + ack.
    Workload { key: "push", title: "push consumer, empty handler", targets: None },
];

/// The most that a push consumer may cost, as a multiple of receive + ack.
const PUSH: f64 = 1.5;

/// A running client and its results by workload.
struct Run<'a> {
    side: &'a Side,
    address: &'a str,
    messages: usize,
    process: Option<Process>,
    results: BTreeMap<&'static str, Result<Vec<Figure>, String>>,
}

/// CPU per message in microseconds, the same in echoes, and messages a second.
#[derive(Clone, Copy)]
struct Figure {
    micros: f64,
    echoes: f64,
    rate: f64,
}

/// Measures all workloads of all clients and prints a table.
pub(crate) async fn measure(
    clients: &[Client],
    echo: &Subject,
    address: &str,
    messages: usize,
) -> Result<(), Failure> {
    let table = Beside::begin("client's CPU per 1 KiB message, in us and in echoes");
    for client in clients {
        let mut runs =
            [Run::new(&client.ours, address, messages), Run::new(&client.apache, address, messages / FEWER)];
        let mut floor = Vec::new();
        for _ in 0..ROUNDS {
            for workload in WORKLOADS {
                let spent = echo.echo(messages).await?.micros();
                floor.push(spent);
                for run in &mut runs {
                    run.round(workload.key, spent).await;
                }
            }
        }
        table.row(&format!("{}: the echo", client.language), &[format!("{:.1} us", median(floor))], "");
        for workload in WORKLOADS {
            let figures = runs.each_ref().map(|run| run.show(workload));
            let what = format!("{}: {}", client.language, workload.title);
            table.row(&what, &figures, &target(workload, &client.language));
        }
    }
    Ok(())
}

fn target(workload: &Workload, language: &str) -> String {
    let Some([rust, scripts, kotlin]) = workload.targets else {
        return format!("{PUSH} x receive + ack");
    };
    let echoes = match language {
        "rust" => rust,
        "kotlin" => kotlin,
        _ => scripts,
    };
    format!("{echoes:.2} echoes")
}

impl<'a> Run<'a> {
    fn new(side: &'a Side, address: &'a str, messages: usize) -> Self {
        Self { side, address, messages, process: None, results: BTreeMap::new() }
    }

    /// Runs a workload once. One that failed is not tried again.
    async fn round(&mut self, workload: &'static str, echo: f64) {
        if let Some(Err(_)) = self.results.get(workload) {
            return;
        }
        let result = self.spent(workload).await.map(|spent| Figure {
            micros: spent.micros(),
            echoes: spent.micros() / echo,
            rate: spent.rate(),
        });
        match (self.results.get_mut(workload), result) {
            (Some(Ok(figures)), Ok(figure)) => figures.push(figure),
            (_, result) => drop(self.results.insert(workload, result.map(|figure| vec![figure]))),
        }
    }

    async fn spent(&mut self, workload: &str) -> Result<Spent, String> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.side.start(&[self.address]).await?,
        };
        let account = process.account();
        let cpu = || account.cpu().map_err(|error| error.to_string());
        let (before, begin) = (cpu()?, Instant::now());
        let line = format!("{workload} {}\n", self.messages);
        let written = match process.stdin() {
            Ok(stdin) => stdin.write_all(line.as_bytes()).await,
            Err(error) => Err(error),
        };
        written.map_err(|error| error.to_string())?;
        let answer = expect(&mut process, "done").await;
        let spent =
            Spent { cpu: cpu()?.saturating_sub(before), wall: begin.elapsed(), messages: self.messages };
        // After a stall it is in an unknown state: the next workload gets a new process.
        if answer.as_ref().is_ok() || answer.as_ref().is_err_and(|reason| reason == NONE) {
            self.process = Some(process);
        }
        answer.map(|()| spent)
    }

    fn show(&self, workload: &Workload) -> String {
        let figures = match self.results.get(workload.key) {
            None => return String::new(),
            Some(Err(reason)) => return reason.clone(),
            Some(Ok(figures)) => figures,
        };
        let of = |value: fn(&Figure) -> f64| median(figures.iter().map(value).collect());
        let (micros, echoes) = (of(|it| it.micros), of(|it| it.echoes));
        let mut text = format!("{micros:.1} us = {echoes:.2}");
        if let (None, Some(Ok(receive))) = (workload.targets, self.results.get("receive")) {
            let receive = median(receive.iter().map(|it| it.echoes).collect());
            text += &format!(" = {:.2} x receive", echoes / receive);
        }
        format!("{text}  {:>6.0}/s", of(|it| it.rate))
    }
}

/// What a client says that has no such workload.
const NONE: &str = "it has none";

/// Waits for a line with a word.
async fn expect(process: &mut Process, word: &str) -> Result<(), String> {
    match timeout(HANG, process.line()).await {
        Ok(Ok(line)) if line == word => Ok(()),
        Ok(Ok(line)) => Err(line),
        Ok(Err(error)) => Err(format!("failed: {error}")),
        Err(_) => Err(format!("not done in {} s", HANG.as_secs())),
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
