//! Runs hostile peers beside one honest client. The client must see no error and no slow call, and afterwards the proxy must
//! use no more memory and descriptors than before.
#![allow(clippy::print_stdout, reason = "a program that reports to its user")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use futures::future::{join_all, try_join_all};
use tokio::runtime::{self, Runtime};
use tokio::time::{Instant, sleep};

use soak::honest::{Honest, LONGEST_CALL, SlowCall, Work, read_back};
use soak::hostile::Hostile;
use soak::machine::Probe;
use soak::server::{Server, Usage};

/// How much larger memory and descriptors may be afterwards.
const TOLERANCE: f64 = 1.05;
/// How long memory and descriptors may take to come back. The longest of the proxy's own times are the 120 s after which it
/// forgets clients.
const RECOVERY: Duration = Duration::from_secs(180);
/// The hostile peers run for this long before memory is compared, so that pools have their size.
const WARM_UP: Duration = Duration::from_secs(60);
/// How many messages a busy load sends before its memory counts: they fill the proxy's cache of 32 MiB.
const FILL: u64 = 50_000;
/// How many it sends when it is the first one. Without any hostile peer, the most memory of each next 30,000 messages rises
/// from 60 MiB to 108 MiB in the course of the first 350,000, and no more after them.
const FIRST_FILL: u64 = 350_000;
/// How many messages it sends while memory is measured. The storage collects progress in memory before it writes it out, as
/// much as about 50,000 messages cause: memory rises and falls by 25 MiB meanwhile. The mean over several such periods
/// counts, because the highest point of one differs by 10 % from that of the next.
const MEASURE: u64 = 200_000;
/// The busy load's clients, and bytes of their messages.
const BUSY_CLIENTS: usize = 16;
const BUSY_BODY: usize = 4096;
/// The pause between two looks at the memory.
const SAMPLE: Duration = Duration::from_millis(100);
/// Messages of a group that is behind, and their bytes: more than the proxy keeps in memory.
const OLD_MESSAGES: usize = 256;
const OLD_BODY: usize = 256 << 10;

/// Runs hostile peers beside one honest client.
///
/// Memory is compared under the same load before and after: busy clients and one that is behind fill the proxy's caches, and
/// what it takes on average during their next messages counts. A proxy that has just started has empty caches, and would seem to leak while
/// they fill.
#[derive(Parser)]
struct Arguments {
    /// The proxy's program
    #[arg(long, value_name = "FILE")]
    proxy: PathBuf,
    /// How long to run
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
}

fn main() -> ExitCode {
    match try_main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut threads = runtime::Builder::new_multi_thread();
    // The hostile peers' work does not count as a delay of the honest client's calls.
    let apart = threads.worker_threads(1).enable_all().build()?;
    Runtime::new()?.block_on(run(arguments, &apart))
}

async fn run(arguments: Arguments, apart: &Runtime) -> Result<()> {
    let start = Instant::now();
    let server = Server::start(&arguments.proxy).await?;
    println!("started: {}", server.usage()?);
    let address = server.address().to_owned();
    let work = Work { topic: "honest".to_owned(), body: 4, pause: Duration::from_millis(20) };
    let honest = apart.spawn(async move { Honest::start(&address, work).await }).await??;
    let idle = server.usage()?;
    let probe = Probe::start(server.data())?;
    let warm_up = Hostile::start(server.address());
    sleep(WARM_UP).await;
    println!("warm-up: {}", warm_up.stop().await);
    let before = under_load(&server, idle, "old-1", FIRST_FILL).await?;
    println!("before: {before}");

    let hostile = Hostile::start(server.address());
    sleep(Duration::from_secs_f64(arguments.minutes * 60.0)).await;
    println!("during: {}; highest memory {:.0} MiB", server.usage()?, server.highest_memory()?);
    println!("hostile: {}", hostile.stop().await);
    settle(&server, before).await?;
    let after = under_load(&server, idle, "old-2", FILL).await?;
    println!("after: {after}");
    let report = honest.stop().await;
    println!("honest: {report}");
    let delays = probe.stop()?;
    println!("machine: {delays}");

    // The machine may be busy with other things, and its disk, too: what even a bare fsync waits for is not the proxy's doing.
    let mut longest = Duration::ZERO;
    for SlowCall { name, started, took } in &report.slow {
        let held_up = delays.within(*started, *took);
        let at = started.duration_since(start.into()).as_secs();
        println!("  a {name} in second {at} took {took:?}; the machine held it up for {held_up:?}");
        longest = longest.max(took.saturating_sub(held_up));
    }
    ensure!(report.errors == 0, "the honest client saw errors: {}", report.first_error.unwrap_or_default());
    ensure!(report.calls > 0, "the honest client did nothing");
    ensure!(
        longest <= LONGEST_CALL,
        "a call of the honest client took {longest:?}, for no fault of the machine"
    );
    ensure!(after.within(TOLERANCE, before), "memory or descriptors did not come back");
    Ok(())
}

/// Waits until the usage is no higher than it was, or has not fallen for long enough.
async fn settle(server: &Server, wanted: Usage) -> Result<()> {
    let end = Instant::now() + RECOVERY;
    while Instant::now() < end && !server.usage()?.within(TOLERANCE, wanted) {
        sleep(Duration::from_secs(1)).await;
    }
    println!("settled: {}", server.usage()?);
    Ok(())
}

/// The mean memory while some clients are busy, once they have sent `fill` messages, and the descriptors once they are gone
/// and the sockets are as few as those of an idle proxy.
async fn under_load(server: &Server, idle: Usage, old: &str, fill: u64) -> Result<Usage> {
    read_back(server.address(), old, OLD_MESSAGES, OLD_BODY).await?;
    let busy = try_join_all((0..BUSY_CLIENTS).map(|number| {
        let work = Work { topic: format!("busy-{number}"), body: BUSY_BODY, pause: Duration::ZERO };
        Honest::start(server.address(), work)
    }));
    let busy = busy.await?;
    let sent = || busy.iter().map(Honest::messages).sum::<u64>();
    while sent() < fill {
        sleep(SAMPLE).await;
    }
    let mut samples = Vec::new();
    while sent() < fill + MEASURE {
        samples.push(server.usage()?.memory_mib);
        sleep(SAMPLE).await;
    }
    let memory_mib = samples.iter().sum::<f64>() / samples.len().max(1) as f64;
    let reports = join_all(busy.into_iter().map(Honest::stop)).await;
    for report in &reports {
        let error = report.first_error.as_deref().unwrap_or_default();
        ensure!(report.errors == 0, "a busy client saw errors: {error}");
    }
    println!("  busy clients made {} calls", reports.iter().map(|report| report.calls).sum::<u64>());
    // The proxy may learn a little later than the clients that they are gone.
    let end = Instant::now() + RECOVERY;
    while Instant::now() < end && server.usage()?.sockets > idle.sockets {
        sleep(SAMPLE).await;
    }
    Ok(Usage { memory_mib, ..server.usage()? })
}
