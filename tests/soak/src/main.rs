//! Runs hostile peers beside one honest client. The client must see no error and no slow call, and afterwards the proxy must
//! use no more memory and descriptors than before.
#![allow(clippy::print_stdout, reason = "a program that reports to its user")]

mod honest;
mod hostile;
mod peer;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use tokio::time::{Instant, sleep};

use honest::Honest;
use hostile::Hostile;
use server::{Server, Usage};

/// The longest that a call of the honest client may take.
const LONGEST_CALL: Duration = Duration::from_secs(1);
/// How much larger memory and descriptors may be afterwards.
const TOLERANCE: f64 = 1.05;
/// How long memory and descriptors may take to come back. The longest of the proxy's own times are the 120 s after which it
/// forgets clients.
const RECOVERY: Duration = Duration::from_secs(180);
/// The hostile peers run for this long before memory is compared, so that caches and pools have their size.
const WARM_UP: Duration = Duration::from_secs(20);

/// Runs hostile peers beside one honest client.
#[derive(Parser)]
struct Arguments {
    /// The proxy's program
    #[arg(long, value_name = "FILE")]
    proxy: PathBuf,
    /// How long to run
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let server = Server::start(&arguments.proxy).await?;
    let honest = Honest::start(server.address()).await?;
    let warm_up = Hostile::start(server.address());
    sleep(WARM_UP).await;
    println!("warm-up: {}", warm_up.stop().await);
    let before = settled(&server, None).await?;
    println!("before: {before}");

    let hostile = Hostile::start(server.address());
    sleep(Duration::from_secs_f64(arguments.minutes * 60.0)).await;
    println!("during: {}; highest memory {} MiB", server.usage()?, server.highest_memory()?);
    println!("hostile: {}", hostile.stop().await);
    let after = settled(&server, Some(before)).await?;
    println!("after: {after}");
    let report = honest.stop().await;
    println!("honest: {report}");

    ensure!(report.errors == 0, "the honest client saw errors: {}", report.first_error.unwrap_or_default());
    ensure!(report.calls > 0, "the honest client did nothing");
    ensure!(report.slowest <= LONGEST_CALL, "a call of the honest client took {:?}", report.slowest);
    ensure!(after.within(TOLERANCE, before), "memory or descriptors did not come back");
    Ok(())
}

/// The usage once it is no higher than it should be, or has not fallen for long enough.
async fn settled(server: &Server, wanted: Option<Usage>) -> Result<Usage> {
    let end = Instant::now() + RECOVERY;
    loop {
        let usage = server.usage()?;
        if Instant::now() >= end || wanted.is_some_and(|wanted| usage.within(TOLERANCE, wanted)) {
            return Ok(usage);
        }
        sleep(Duration::from_secs(1)).await;
    }
}
