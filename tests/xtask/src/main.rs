//! `cargo x <verb>`: the one command of the project, the same for people and for CI.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task runner writes to its user")]

mod across;
mod artefacts;
mod bench;
mod bindings;
mod brokers;
mod check;
mod cluster;
mod conform;
mod console;
mod contract;
mod crash;
mod docs;
mod examples;
mod fleet;
mod fresh;
mod fuzz;
mod installed;
mod interop;
mod language;
mod maven;
mod package;
mod proxy;
mod publish;
mod quickstart;
mod registry;
mod snippets;
mod soak;
mod step;
mod tally;
mod test;
mod tidy;
mod tool;
mod typed;
mod workspace;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use interop::Visit;
use language::{Language, Selection};
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

/// What can be measured alone.
#[derive(Debug, Subcommand)]
enum Measured {
    /// The embedded broker with every send on the disk, compared with Apache's local mode and a NATS server.
    /// Competitors that can't be installed are skipped
    Broker,
    /// What a message of Apache's classic Java client costs the proxy, merged and separated, compared with Apache's
    /// broker and proxy
    Classic,
    /// How well quotas hold, and what a client at ten times its quota costs another one, in one proxy and in a fleet of three
    Limits,
    /// The proxy, compared with that of an earlier revision: they run in turn. The first run builds that revision
    Since {
        /// A git revision
        revision: String,
    },
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// A first look: start a proxy; send, receive, change the invisible time and acknowledge in each language
    Quickstart {
        #[command(flatten)]
        languages: Selection,
    },
    /// Run all tests, as CI does. Ends with one line: N passed, N failed
    Test {
        #[command(flatten)]
        languages: Selection,
        /// Leave Apache's Go client out
        #[arg(long)]
        without_go: bool,
    },
    /// Check the source: tidy, format, clippy, documentation, dependencies
    Check,
    /// Check the project's own rules: import directions, wire types at the edges, file lengths, names
    Tidy,
    /// Run the conformance suite, or a part of it
    Conform {
        /// Also on real brokers: our separated proxy, and Apache's own
        #[arg(long)]
        real: bool,
        /// Only this language [default: all]
        #[arg(value_enum)]
        language: Option<Language>,
        /// Only cases whose name matches this regular expression
        case: Option<String>,
        /// Leave a language out; may be repeated
        #[arg(long, value_enum, value_name = "LANGUAGE")]
        without: Vec<Language>,
    },
    /// Start a real Apache RocketMQ and run on it: the backend contract; Apache's clients and the recorded answers of
    /// Apache's proxy against our proxy; our clients against our proxy and Apache's
    Interop {
        #[command(flatten)]
        visit: Visit,
    },
    /// Start, stop and show a real Apache RocketMQ (name server and brokers) to try separated mode on
    #[command(disable_help_flag = true)]
    Cluster {
        /// up, down or status; see `cargo x cluster --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Kill proxies, a broker or name servers under load of every message type, and count lost messages
    #[command(disable_help_flag = true)]
    Fleet {
        /// --fault proxies|broker|shutdown|hang|name-servers, --guarded, --seconds N; see `cargo x fleet --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Kill a proxy under load of every message type, or simulate power loss, and check its guarantees
    #[command(disable_help_flag = true)]
    Crash {
        /// --minutes N, --seed S; see `cargo x crash --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Click through the proxy's console in Chromium, and check its accessibility
    Console {
        /// Keep pictures of all views in this folder
        #[arg(long, value_name = "FOLDER")]
        screenshots: Option<PathBuf>,
    },
    /// Fuzz the code that parses untrusted bytes, with libFuzzer
    Fuzz {
        /// The target
        #[arg(value_parser = fuzz::TARGETS)]
        target: String,
        /// Seconds to run
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Run hostile peers alongside one honest client, which must see no error and no slow call. The proxy's memory and
    /// descriptors must return to their initial values
    Soak {
        /// Minutes to run, not counting the time to warm up and to recover
        #[arg(long, default_value_t = 1.0)]
        minutes: f64,
    },
    /// Measure CPU per message, compared with a raw gRPC echo and with Apache's proxy
    Bench {
        #[command(subcommand)]
        only: Option<Measured>,
        #[command(flatten)]
        languages: Selection,
    },
    /// Build the wheel, the npm tarball and the jar for this machine in target/x/dist
    Package {
        #[command(flatten)]
        languages: Selection,
        /// Make the packages for the registries, in target/x/publish: crates, wheels and sdist, npm packages and a Maven
        /// repository, with optimised libraries for several platforms. Then install and try them. Takes many minutes
        #[arg(long)]
        release: bool,
        #[command(flatten)]
        choice: publish::Choice,
    },
    /// Build the API reference of each language in target/x/docs
    Docs {
        #[command(flatten)]
        languages: Selection,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\n{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether the command succeeded. If not, its last line has already said what failed.
fn run(arguments: Arguments) -> Result<bool> {
    let workspace = &Workspace::find()?;
    match arguments.verb {
        Verb::Test { languages, without_go } => {
            return test::run(workspace, &languages.resolve()?, without_go);
        }
        Verb::Quickstart { languages } => quickstart::run(workspace, &languages.resolve()?),
        Verb::Check => check::run(workspace),
        Verb::Tidy => step::perform("tidy", || tidy::run(workspace.root())),
        Verb::Conform { real, language, case, without } => {
            let languages = Selection::of(language.into_iter().collect(), without).resolve()?;
            conform::run(workspace, &languages, (case.as_deref(), real))
        }
        Verb::Interop { visit } => interop::run(workspace, &visit),
        Verb::Cluster { arguments } => cluster::run(workspace, &arguments),
        Verb::Fleet { arguments } => fleet::run(workspace, &arguments),
        Verb::Crash { arguments } => crash::run(workspace, &arguments),
        Verb::Console { screenshots } => console::run(workspace, screenshots.as_deref()),
        Verb::Fuzz { target, seconds } => fuzz::run(workspace, &target, seconds),
        Verb::Soak { minutes } => soak::run(workspace, minutes),
        Verb::Bench { only: Some(Measured::Broker), .. } => bench::broker(workspace),
        Verb::Bench { only: Some(Measured::Classic), .. } => bench::classic(workspace),
        Verb::Bench { only: Some(Measured::Limits), .. } => bench::limits(workspace),
        Verb::Bench { only: Some(Measured::Since { revision }), .. } => bench::since(workspace, &revision),
        Verb::Bench { only: None, languages } => bench::run(workspace, &languages.resolve()?),
        Verb::Package { languages, release: false, .. } => package::run(workspace, &languages.resolve()?),
        Verb::Package { languages, choice, .. } => publish::run(workspace, &languages.resolve()?, &choice),
        Verb::Docs { languages } => docs::run(workspace, &languages.resolve()?),
    }?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_of_every_verb_are_well_formed() {
        Arguments::command().debug_assert();
    }
}
