//! `store check`: checks a data directory that no proxy uses.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;

use super::output::{Report, show};
use super::times;
use super::{complain, note};
use crate::backend::embedded::{CheckReport, Finding, check_store};

/// The exit code of a check that has found damage. 1 says that it was not possible.
const DAMAGED: u8 = 2;
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

/// Checks a data directory. The exit code tells what was found.
pub(super) fn run(check: &Check) -> ExitCode {
    let mut reported = Instant::now();
    let mut tell = |read, expected| {
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            note(&format!("checked {} of about {}", times::bytes(read), times::bytes(expected)));
        }
    };
    let report = match check_store(&check.directory, &mut tell) {
        Ok(report) => report,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = show(&report, check.json) {
        complain(&error);
        return ExitCode::FAILURE;
    }
    if report.is_damaged() { ExitCode::from(DAMAGED) } else { ExitCode::SUCCESS }
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
        let Self { bytes, topics, groups, messages, waiting_messages, leases, .. } = self;
        let _ = write!(
            text,
            "{} is {verdict}: {topics} topics, {groups} groups, {messages} messages, {waiting_messages} delayed and \
             half messages, {leases} unsettled deliveries; {} read",
            self.directory.display(),
            times::bytes(*bytes),
        );
        text
    }
}
