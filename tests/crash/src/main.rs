//! `crash`: a proxy with its embedded broker is killed at random moments under load of every message type, and started
//! again on the same data. Then nothing that was acknowledged may be missing, nothing may come early, twice or out of
//! order, and no message that was rolled back or recalled may come.
//!
//! A power loss is the same, except that the data directory also loses what was not synced: `shim/synced.c` follows
//! the writes of the process, and [`disk`] decides what survives.
//!
//! A seed repeats the choices: the load, the moments of the kills and what survives. It does not repeat the timing of
//! the threads.

mod consume;
mod disk;
mod ledger;
mod load;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use consume::Manner;
use disk::{Disk, Survival};
use ledger::{Crash, Kind, Ledger};
use server::{Launch, Server};

/// How long what is outstanding may take after the last crash: some leases.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long the consumers go on when nothing is outstanding, to see what must not come.
const AFTERMATH: Duration = Duration::from_millis(500);
/// After so many crashes a long run checks the data and begins anew.
const CRASHES_PER_ROUND: u32 = 25;

/// Kills a proxy under load, or takes its disk's power away, and checks that it keeps what it promised
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Repeat rounds of 25 kills, and of 25 power losses, for this long
    #[arg(long)]
    minutes: Option<f64>,
    /// Without --minutes: how often the process is killed
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// Without --minutes: how often the power fails
    #[arg(long, default_value_t = 10)]
    power_losses: u32,
    /// Repeats the choices of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the data of a round that failed
    #[arg(long)]
    keep: bool,
    /// The rocketmq-thin-proxy binary
    #[arg(long)]
    proxy: PathBuf,
    /// The compiled shim/synced.c; without it there are no power losses
    #[arg(long)]
    shim: Option<PathBuf>,
}

#[expect(clippy::print_stdout, reason = "a command line program")]
#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut passed, mut failed) = (0, 0);
    let mut count = |outcomes: [Option<bool>; 2]| {
        passed += outcomes.iter().filter(|outcome| **outcome == Some(true)).count();
        failed += outcomes.iter().filter(|outcome| **outcome == Some(false)).count();
    };
    match arguments.minutes {
        None => count(both(&arguments, &mut random, (arguments.kills, arguments.power_losses)).await),
        Some(minutes) => {
            let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
            while Instant::now() < end {
                count(both(&arguments, &mut random, (CRASHES_PER_ROUND, CRASHES_PER_ROUND)).await);
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A round of kills and a round of power losses side by side: much of both is waiting.
async fn both(arguments: &Arguments, random: &mut StdRng, (kills, losses): (u32, u32)) -> [Option<bool>; 2] {
    let rounds = [(Crash::Kill, kills), (Crash::PowerLoss, losses)].map(|(crash, crashes)| {
        let is_possible = crash == Crash::Kill || arguments.shim.is_some();
        (is_possible && crashes > 0).then(|| Round {
            crash,
            crashes,
            random: StdRng::seed_from_u64(random.random()),
        })
    });
    let [kill, loss] = rounds.map(|round| async move {
        match round {
            Some(round) => Some(round.report(arguments).await),
            None => None,
        }
    });
    let (kill, loss) = tokio::join!(kill, loss);
    [kill, loss]
}

/// Crashes on one data directory, and the check at the end.
struct Round {
    crash: Crash,
    crashes: u32,
    random: StdRng,
}

impl Round {
    #[expect(clippy::print_stdout, reason = "a command line program")]
    async fn report(mut self, arguments: &Arguments) -> bool {
        let (crash, crashes) = (self.crash, self.crashes);
        let start = Instant::now();
        let told = match self.run(arguments).await {
            Ok(told) => format!("passed {crashes} times {crash:?}: {told}"),
            Err(error) => format!("FAILED {crashes} times {crash:?}: {error:#}"),
        };
        println!("{told} ({:.0} s)", start.elapsed().as_secs_f64());
        told.starts_with("passed")
    }

    async fn run(&mut self, arguments: &Arguments) -> Result<String> {
        let folder = tempfile::tempdir()?;
        let shim = arguments.shim.clone().filter(|_| self.crash == Crash::PowerLoss);
        let root = folder.path().canonicalize()?;
        let launch = Launch { program: arguments.proxy.clone(), folder: root, shim };
        // Both survive a kill; after a power loss only what was synced is there.
        let flush = if self.crash == Crash::Kill && self.random.random() { "async" } else { "sync" };
        launch.prepare(&configuration(flush))?;
        let ledger = Arc::new(Mutex::new(Ledger::new(self.crash)));
        let outcome = self.crash_and_check(&launch, &ledger).await;
        let outcome =
            outcome.with_context(|| format!("flush = {flush}; the proxy's log: {}", launch.log_tail()));
        if outcome.is_err() && arguments.keep {
            return outcome.with_context(|| format!("the data is in {}", folder.keep().display()));
        }
        outcome
    }

    async fn crash_and_check(&mut self, launch: &Launch, ledger: &load::SharedLedger) -> Result<String> {
        for number in 1..=self.crashes {
            let crashed = self.crash_once(launch, ledger).await;
            let faults = ledger.lock().faults().to_vec();
            ensure!(faults.is_empty(), "before crash {number}: {}", first(&faults));
            crashed.with_context(|| format!("crash {number}"))?;
        }
        let slowest_start = self.drain(launch, ledger).await?;
        let counts = ledger.lock().counts();
        ensure!(counts.settled > 0, "nothing was settled");
        Ok(format!(
            "{} messages sent, {} deliveries, {} settled; the last start took {:.2} s",
            counts.sent,
            counts.deliveries,
            counts.settled,
            slowest_start.as_secs_f64()
        ))
    }

    /// Starts the proxy, puts load on it, and lets it crash.
    async fn crash_once(&mut self, launch: &Launch, ledger: &load::SharedLedger) -> Result<()> {
        if self.random.random_bool(0.2) {
            // In the middle of a start.
            let mut process = launch.spawn()?;
            sleep(Duration::from_millis(self.random.random_range(0..60))).await;
            process.kill().await?;
            self.lose_power(launch)?;
        }
        let server = launch.start().await?;
        let mut tasks = JoinSet::new();
        let address = server.address().to_owned();
        consume::consume((&address, Manner::Mixed), ledger, &mut self.random, &mut tasks).await?;
        load::produce(&address, ledger, &mut self.random, &mut tasks).await?;
        sleep(Duration::from_millis(self.random.random_range(50..1_200))).await;
        self.end(server, launch, tasks).await
    }

    async fn end(&mut self, server: Server, launch: &Launch, mut tasks: JoinSet<()>) -> Result<()> {
        server.kill().await?;
        tasks.shutdown().await;
        self.lose_power(launch)
    }

    fn lose_power(&mut self, launch: &Launch) -> Result<()> {
        if launch.shim.is_none() {
            return Ok(());
        }
        let survival = Survival::choose(&mut self.random);
        let (data, synced) = (launch.data(), launch.synced());
        let disk = Disk { data, synced, survival, random: &mut self.random };
        disk.lose_power().context("the copy of what was synced")
    }

    /// Receives what is left. Returns how long the start took.
    async fn drain(&mut self, launch: &Launch, ledger: &load::SharedLedger) -> Result<Duration> {
        let start = Instant::now();
        let server = launch.start().await?;
        let start = start.elapsed();
        let mut tasks = JoinSet::new();
        let address = server.address().to_owned();
        consume::consume((&address, Manner::Diligent), ledger, &mut self.random, &mut tasks).await?;
        consume::read_dead_letters(&address, ledger, &mut tasks).await?;
        let all_here = async {
            let mut looks = interval(Duration::from_millis(100));
            while !ledger.lock().missing().is_empty() {
                looks.tick().await;
            }
        };
        let is_complete = timeout(PATIENCE, all_here).await.is_ok();
        sleep(AFTERMATH).await;
        server.kill().await?;
        tasks.shutdown().await;
        let ledger = ledger.lock();
        let missing = ledger.missing();
        let told: Vec<_> = missing.iter().map(|number| ledger.describe(*number)).collect();
        ensure!(ledger.faults().is_empty(), "at the end: {}", first(ledger.faults()));
        ensure!(is_complete, "{} messages are lost: {}", missing.len(), first(&told));
        Ok(start)
    }
}

fn first(told: &[String]) -> String {
    format!("{} times: {}", told.len(), told.iter().take(4).cloned().collect::<Vec<_>>().join("; "))
}

/// Leases and waits are shorter than by default, and undecided transactions are soon discarded.
fn configuration(flush: &str) -> String {
    use std::fmt::Write as _;

    let mut text = format!(
        "[limits]\nmin_invisible = '100ms'\nmin_polling = '10ms'\n\
         [backend.embedded]\nflush = '{flush}'\ntransaction_timeout = '1s'\ntransaction_check_interval = '1s'\n\
         transaction_check_max = 2\ncache_bytes = 2000000\n"
    );
    for kind in Kind::ALL {
        let name = kind.name();
        let is_fifo = kind == Kind::Fifo;
        let bound = if kind == Kind::Lite { "lite_bind_topic = 'lite'\n" } else { "" };
        let written = write!(
            text,
            "[[topics]]\nname = '{name}'\ntype = '{name}'\nqueues = 4\n\
             [[groups]]\nname = '{name}'\nfifo = {is_fifo}\nmax_retries = 1000000\n{bound}"
        );
        written.expect("a string takes any text");
    }
    text
}
