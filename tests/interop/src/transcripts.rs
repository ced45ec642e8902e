//! The transcripts: recorded answers of Apache's proxy, replayed against our proxy.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use regex::Regex;
use tokio::process::Command;

use crate::{
    Place, SOURCE, Tally,
    client::python_environment,
    install::{Installation, source},
    succeed, text,
};

/// The flags of a proxy for the cases of `cases.jsonl`. The recorded proxy created groups automatically, but not topics.
const FLAGS: &[&str] =
    &["--auto-create-topics", "false", "--auto-create-groups", "true", "--trusted-proxies", "127.0.0.0/8"];

/// The `.proto` files of which the replayer needs stubs.
const CONTRACTS: &[&str] = &[
    "apache/rocketmq/v2/definition.proto",
    "apache/rocketmq/v2/service.proto",
    "rocketmq/thin/v1/admin.proto",
];

/// The program that replays, with what it needs.
pub(crate) struct Replayer {
    interpreter: String,
    stubs: PathBuf,
}

/// Installs what the replays need.
pub(crate) async fn prepare(cache: &Path) -> Result<Replayer> {
    let interpreter = python_environment(cache).await?;
    let stubs = stubs(cache, &interpreter).await?;
    Ok(Replayer { interpreter, stubs })
}

/// The cases to replay.
pub(crate) struct Record<'a> {
    /// The replayer's flag for these cases; `None` for those of `cases.jsonl`.
    pub(crate) name: Option<&'a str>,
    /// The flags of the proxy.
    pub(crate) flags: &'a [String],
    /// The names of the cases, as a regular expression.
    pub(crate) case: &'a str,
}

/// Replays the matching cases of `cases.jsonl` and prints the differences.
pub(crate) async fn replay_cases(replayer: &Replayer, place: &Place<'_>, case: &str) -> Result<Tally> {
    let flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    replay(replayer, place, &Record { name: None, flags: &flags, case }).await
}

/// Replays the matching cases and prints the differences.
#[expect(clippy::print_stdout, reason = "part of a command line program")]
pub(crate) async fn replay(replayer: &Replayer, place: &Place<'_>, record: &Record<'_>) -> Result<Tally> {
    let Record { name, flags, case } = record;
    let server = place.start(flags).await?;
    let mut replay = Command::new(&replayer.interpreter);
    // No compiled modules beside the sources.
    replay.env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
    replay.arg(source("transcripts/replay.py")).args(["--endpoint", server.address(), "--only", case]);
    replay.args(["--mode", place.mode()]).args(name);
    let output = replay.arg("--stubs").arg(&replayer.stubs).output().await.context("starting the replay")?;
    let printed = text(&output.stdout);
    let (report, last) = printed.trim_end().rsplit_once('\n').unwrap_or(("", printed.trim_end()));
    println!("{report}");
    let tally = tally(last);
    tally.with_context(|| {
        format!("the replay ended with {last:?}\n{}\n{}", text(&output.stderr), server.log_tail())
    })
}

fn tally(line: &str) -> Option<Tally> {
    let numbers = Regex::new(r"^(\d+) passed, (\d+) failed$").ok()?.captures(line)?;
    Some(Tally { passed: numbers[1].parse().ok()?, failed: numbers[2].parse().ok()? })
}

/// Python stubs of our `.proto` files.
async fn stubs(cache: &Path, interpreter: &str) -> Result<PathBuf> {
    let contracts = Path::new(SOURCE).join("../../proto");
    let inputs: Vec<String> = CONTRACTS.iter().map(|file| format!("../../proto/{file}")).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let installation = Installation::new(cache, "stubs", &inputs)?;
    if !installation.is_fresh() {
        let mut compile = Command::new(interpreter);
        compile.current_dir(contracts).args(["-m", "grpc_tools.protoc", "-I", "."]);
        compile.arg("--python_out").arg(&installation.folder).args(CONTRACTS);
        succeed(&mut compile).await?;
        // Apache's client is a package `rocketmq` too: ours comes first only as an ordinary package.
        fs::write(installation.folder.join("rocketmq/__init__.py"), "")?;
        installation.done()?;
    }
    Ok(installation.folder)
}
