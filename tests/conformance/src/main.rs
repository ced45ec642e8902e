//! `conformance`: runs the cases, prints what failed and the numbers of passed and failed combinations.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use conformance::{
    case::{self, ServerKind},
    driver::Language,
    known::KnownFailing,
    suite::{RealCluster, Suite},
};
use regex::Regex;

/// Runs what users rely on, in every language, against a scripted server, our proxy, and Apache's
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this language; may be repeated
    #[arg(long)]
    language: Vec<String>,
    /// Only cases whose name matches
    #[arg(long, value_name = "REGEX", default_value = "")]
    case: Regex,
    /// Only this kind of server; may be repeated [default: all for which there is what they need]
    #[arg(long)]
    server: Vec<ServerKind>,
    /// A name server of real brokers, for our separated proxy
    #[arg(long, value_name = "HOST:PORT")]
    name_server: Option<String>,
    /// Apache's proxy in front of the same brokers
    #[arg(long, value_name = "HOST:PORT", requires = "name_server")]
    apache_proxy: Option<String>,
    /// The rocketmq-thin-proxy binary [default: beside this program]
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// How to start a language's driver, split at spaces outside double quotes; may be repeated
    #[arg(long, value_name = "LANGUAGE=COMMAND", value_parser = driver)]
    driver: Vec<Language>,
    /// The folder of the cases
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))]
    cases: PathBuf,
    /// The list of what is known to fail
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/known-failing.txt"))]
    known_failing: PathBuf,
    /// Print the cases and what each shows, run nothing
    #[arg(long)]
    list: bool,
    /// Combinations of case, language and server that run at the same time. They mostly wait
    #[arg(long, default_value_t = 24)]
    jobs: usize,
}

fn driver(text: &str) -> Result<Language> {
    let (name, command) = text.split_once('=').context("LANGUAGE=COMMAND")?;
    let mut words = Vec::new();
    for (place, part) in command.split('"').enumerate() {
        match place % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    Ok(Language { name: name.to_owned(), command: words })
}

/// The given drivers and Rust's own, restricted to the chosen languages.
fn languages(arguments: &Arguments, programs: &Path) -> Result<Vec<Language>> {
    let mut all = arguments.driver.clone();
    if !all.iter().any(|language| language.name == "rust") {
        let program = programs.join("conformance-driver-rust");
        all.insert(0, Language { name: "rust".to_owned(), command: vec![program.display().to_string()] });
    }
    for wanted in &arguments.language {
        ensure!(
            all.iter().any(|language| language.name == *wanted),
            "{wanted} has no driver: give it with --driver"
        );
    }
    all.retain(|language| arguments.language.is_empty() || arguments.language.contains(&language.name));
    Ok(all)
}

#[expect(clippy::print_stdout, reason = "a command line program")]
#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut cases = case::load(&arguments.cases)?;
    cases.retain(|case| arguments.case.is_match(&case.name));
    if arguments.list {
        for case in &cases {
            println!("{}: {}", case.name, case.shows);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if cases.is_empty() {
        bail!("no case is called like {}", arguments.case);
    }
    let program = env::current_exe().context("finding this program")?;
    let programs = program.parent().context("a program outside any folder")?;
    let suite = Suite {
        languages: languages(&arguments, programs)?,
        servers: match arguments.server.is_empty() {
            true => {
                let mut servers = vec![ServerKind::Scripted, ServerKind::Merged];
                servers.extend(arguments.name_server.is_some().then_some(ServerKind::Separated));
                servers.extend(arguments.apache_proxy.is_some().then_some(ServerKind::Apache));
                servers
            }
            false => arguments.server,
        },
        cluster: arguments
            .name_server
            .map(|name_server| RealCluster { name_server, apache_proxy: arguments.apache_proxy }),
        jobs: arguments.jobs,
        proxy: arguments.proxy.unwrap_or_else(|| programs.join("rocketmq-thin-proxy")),
        known: KnownFailing::load(&arguments.known_failing)?,
        cases,
    };
    let tally = suite
        .run(|name, failure| match failure {
            None => println!("passed {name}"),
            Some(_) => println!("FAILED {name}"),
        })
        .await;
    for failure in &tally.failures {
        println!("\nFAILED {failure}");
    }
    if !tally.known.is_empty() {
        println!("\n{} known to fail, and did: {}", tally.known.len(), tally.known.join("; "));
    }
    for (missing, cases) in &tally.unsupported {
        let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
        println!("\n{missing}, not played: {}", cases.join(", "));
    }
    println!("{} passed, {} failed", tally.passed, tally.failures.len());
    Ok(if tally.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
