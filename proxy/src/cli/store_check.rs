//! `store check` and `store copy`: read a data directory that no proxy uses.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;

use super::output::{Report, show};
use super::times;
use super::{complain, note};
use crate::backend::embedded::{CheckReport, CopyReport, Finding, OpenError, check_store, copy_store};

/// The exit code of a check that has found damage. 1 says that it was not possible, 2 that the arguments are wrong.
const DAMAGED: u8 = 3;
/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_secs(2);

#[derive(ClapArgs)]
pub(super) struct Check {
    /// The data directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(ClapArgs)]
pub(super) struct CopyTo {
    /// The data directory
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The new directory
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Answer with JSON
    #[arg(long)]
    json: bool,
}

/// Checks a data directory. The exit code tells what was found.
pub(super) fn run(check: &Check) -> ExitCode {
    let report = check_store(&check.directory, &mut telling("checked"));
    finish(report, |report| report.is_damaged(), check.json)
}

/// Copies what can be read. The exit code tells whether something was lost.
pub(super) fn copy(copy: &CopyTo) -> ExitCode {
    let report = copy_store(&copy.from, &copy.to, &mut telling("copied"));
    finish(report, |report| report.found.is_damaged(), copy.json)
}

/// Reports progress now and then.
fn telling(what: &'static str) -> impl FnMut(u64, u64) {
    let mut reported = Instant::now();
    move |read, expected| {
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            note(&format!("{what} {} of about {}", times::bytes(read), times::bytes(expected)));
        }
    }
}

fn finish<R: Report>(report: Result<R, OpenError>, is_damaged: impl Fn(&R) -> bool, json: bool) -> ExitCode {
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = show(&report, json) {
        complain(&error);
        return ExitCode::FAILURE;
    }
    if is_damaged(&report) { ExitCode::from(DAMAGED) } else { ExitCode::SUCCESS }
}

impl Report for CheckReport {
    fn text(&self) -> String {
        let mut text = String::new();
        for Finding { damaged, place, cost, advice, .. } in &self.findings {
            let word = if *damaged { "damaged" } else { "note" };
            // Writing to a String can't fail.
            let _ = writeln!(text, "{word}: {place}\n  cost: {cost}\n  what to do: {advice}");
        }
        let verdict = if self.is_damaged() { "damaged" } else { "sound" };
        let _ = write!(text, "{} is {verdict}: {}", self.directory.display(), counts(self));
        text
    }
}

impl Report for CopyReport {
    fn text(&self) -> String {
        let mut text = String::new();
        for Finding { place, cost, .. } in self.found.findings.iter().filter(|finding| finding.damaged) {
            // Writing to a String can't fail.
            let _ = writeln!(text, "lost: {place}\n  cost: {cost}");
        }
        let what = if self.found.is_damaged() { "what could be read" } else { "everything" };
        let _ = write!(text, "copied {what} to {}: {}", self.copy.display(), counts(&self.found));
        text
    }
}

fn counts(report: &CheckReport) -> String {
    let CheckReport { bytes, topics, groups, messages, waiting_messages, leases, .. } = report;
    format!(
        "{topics} topics, {groups} groups, {messages} messages, {waiting_messages} delayed and half messages, {leases} \
         unsettled deliveries; {} read",
        times::bytes(*bytes)
    )
}
