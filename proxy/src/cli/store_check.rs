//! `store check` and `store copy`: check or copy a data directory that no proxy uses.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;

use super::output::{Report, print_error, print_note, show};
use super::units;
use crate::backend::embedded::{CheckReport, CopyReport, Finding, OpenError, check_store, copy_store};

/// The exit code if damage was found. 1 means that the command failed, 2 that its arguments are wrong.
const DAMAGED: u8 = 3;
/// How often progress is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

#[derive(ClapArgs)]
pub(super) struct CheckArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(ClapArgs)]
pub(super) struct CopyArgs {
    /// The data directory
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The new directory
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `store check`. The exit code says whether the directory is damaged.
pub(super) fn run(check: &CheckArgs) -> ExitCode {
    let report = check_store(&check.directory, &mut progress_reporter("checked"));
    finish(report, |report| report.is_damaged(), check.json)
}

/// Runs `store copy`. The exit code says whether something was lost.
pub(super) fn copy(copy: &CopyArgs) -> ExitCode {
    let report = copy_store(&copy.from, &copy.to, &mut progress_reporter("copied"));
    finish(report, |report| report.found.is_damaged(), copy.json)
}

/// Returns a callback that prints the bytes read so far, at most once in [`PROGRESS_INTERVAL`].
fn progress_reporter(what: &'static str) -> impl FnMut(u64, u64) {
    let mut reported = Instant::now();
    move |read, expected| {
        if reported.elapsed() >= PROGRESS_INTERVAL {
            reported = Instant::now();
            print_note(&format!(
                "{what} {} of about {}",
                units::format_bytes(read),
                units::format_bytes(expected)
            ));
        }
    }
}

fn finish<R: Report>(report: Result<R, OpenError>, is_damaged: impl Fn(&R) -> bool, json: bool) -> ExitCode {
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            print_error(&error);
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = show(&report, json) {
        print_error(&error);
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
        units::format_bytes(*bytes)
    )
}
