//! `cargo x fuzz`: runs libFuzzer on the code that reads bytes from strangers.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{
    step,
    workspace::{Workspace, cargo},
};

/// The compiler flags for the coverage that libFuzzer needs (LLVM's SanitizerCoverage).
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Overflows count as findings.
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];
/// The targets, by their names in `fuzz::Target`.
pub(crate) const TARGETS: [&str; 8] =
    ["grpc", "sql", "handle", "proxy-header", "remoting", "classic", "http", "token"];
/// The most bytes of an input.
const LONGEST: usize = 4096;

/// Builds with coverage and fuzzes for this many seconds. The corpus is kept for the next run.
pub(crate) fn run(workspace: &Workspace, target: &str, seconds: u64) -> Result<()> {
    step::heading("Getting ready");
    let host = host()?;
    let mut build = Command::new(cargo());
    build.current_dir(workspace.root()).args(["build", "--package=fuzz", "--features=engine"]);
    // For a named platform, flags are for what is linked into the program, and not for build scripts.
    build.args(["--profile=tested", "--target", &host]);
    build.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    step::run(workspace, "build with coverage (the first time all dependencies, too)", &mut build)?;
    step::heading(&format!("Fuzzing {target} for {seconds} s"));
    let corpus = workspace.cache(&format!("fuzz/{target}/corpus"))?;
    let found = workspace.cache(&format!("fuzz/{target}/found"))?;
    let mut fuzz = Command::new(workspace.target().join(&host).join("tested/fuzz"));
    fuzz.env("FUZZ_TARGET", target).env("FUZZ_SEEDS", &corpus);
    fuzz.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={LONGEST}"));
    fuzz.arg(format!("-artifact_prefix={}/", found.display())).args([
        "-timeout=15",
        "-verbosity=0",
        "-print_final_stats=1",
    ]);
    fuzz.arg(corpus);
    ensure!(fuzz.status()?.success(), "an input was found that breaks something: see {}", found.display());
    Ok(())
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("--version").arg("--verbose").output().context("running rustc")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say for which platform it compiles")
}
