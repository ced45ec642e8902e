//! The command line: parses it, and serves or runs a subcommand.

mod access;
mod access_error;
mod access_reports;
mod access_source;
mod admin;
mod admin_error;
mod catalog_flags;
mod catalog_reports;
mod check_config;
mod commands;
mod dead_letters;
mod logging;
mod memory;
mod message_reports;
mod message_trace;
mod messages;
mod output;
mod quotas;
mod serve_flags;
mod server_args;
mod stat_reports;
mod store_check;
mod store_reports;
mod summary_reports;
mod units;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::app;
use crate::config::Config;
use commands::{Command, StoreCommand};
use output::{print, print_error, print_note};
use serve_flags::Args;

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    // These commands report their findings by exit codes of their own.
    match &args.command {
        Some(Command::Store(StoreCommand::Check(check))) => return store_check::run(check),
        Some(Command::Store(StoreCommand::Copy(copy))) => return store_check::copy(copy),
        None if args.check_config => return check_config::run(args.serve),
        _ => {}
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&*error);
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn run(args: Args) -> Outcome {
    match args.command {
        Some(command) => administer(command),
        None => serve(args),
    }
}

fn administer(command: Command) -> Outcome {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::User(command) => Ok(access::user(command).await?),
            Command::Acl(command) => Ok(access::acl(command).await?),
            command => Ok(admin::run(command).await?),
        }
    })
}

fn serve(args: Args) -> Outcome {
    let config = args.serve.into_config()?;
    if args.print_config {
        return Ok(print(&toml::to_string(&config)?)?);
    }
    let log = logging::init(&config.log)?;
    if let Some(file) = &config.access.file
        && let Some(secret) = access::create_first_user(file, config.access.key_file.as_deref())?
    {
        // Standard output is not used: its first line must be the address.
        print_note(&format!(
            "{} is new: access key admin, secret key {secret} (a super user; the secret is not shown again)",
            file.display()
        ));
    }
    memory::return_freed_memory();
    Ok(runtime(&config)?.block_on(app::serve(config, log))?)
}

/// The runtime of a serving proxy, with `workers` threads, by default half as many as there are processors: in measurements,
/// more threads cost more in wake-ups than they gained.
fn runtime(config: &Config) -> std::io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if config.workers == 0 { (processors / 2).max(1) } else { config.workers };
    Builder::new_multi_thread().worker_threads(workers).thread_name("proxy").enable_all().build()
}
