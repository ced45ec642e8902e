//! `cargo x <verb>`: the one command of the project, the same for people and for CI.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task runner speaks to its user")]

mod check;
mod language;
mod step;
mod tidy;
mod tool;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

/// The one command of rocketmq-thin: the same for people and for CI.
///
/// Each verb sets up what it needs in ignored folders below target/x, builds everything once, and keeps the
/// output of the machinery in target/x/log.
#[derive(Debug, Parser)]
#[command(name = "cargo x", bin_name = "cargo x")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Judge the source: tidy, format, clippy, documentation, dependencies
    Check,
    /// Judge the house rules alone: import arrows, wire types at the edges, file lengths, names
    Tidy,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    match arguments.verb {
        Verb::Check => check::run(&workspace),
        Verb::Tidy => step::perform("tidy", || tidy::run(workspace.root())),
    }
}
