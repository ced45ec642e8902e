//! Counts the tests of a program by its output. Every test runner has its own format.

use std::fmt;

use anyhow::Result;

use crate::step::Outcome;

/// Passed and failed tests. A step without test counts is one test.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Adds the counts in the log of a step. A failed step counts at least one failure.
    pub(crate) fn count(&mut self, outcome: &Outcome) -> Result<()> {
        let mut read = read(&outcome.log.text()?);
        if read == Self::default() && outcome.ok {
            read.passed = 1;
        }
        if read.failed == 0 && !outcome.ok {
            read.failed = 1;
        }
        self.add(read);
        Ok(())
    }

    /// Adds one test of our own.
    pub(crate) fn add_one(&mut self, passed: bool) {
        self.add(Self { passed: u64::from(passed), failed: u64::from(!passed) });
    }

    /// Whether nothing has failed.
    pub(crate) fn is_clean(self) -> bool {
        self.failed == 0
    }

    /// Adds what has been counted elsewhere.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Sums the closing lines of cargo test, of our own runners, pytest and unittest, node --test and Maven.
fn read(log: &str) -> Tally {
    let mut tally = Tally::default();
    for line in log.lines().map(str::trim) {
        tally.add(read_line(line).unwrap_or_default());
    }
    tally
}

fn read_line(line: &str) -> Option<Tally> {
    // cargo test: "test result: ok. 3 passed; 0 failed; …"; our own and pytest: "3 passed, 1 failed".
    let closing =
        line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")).map(|(_, rest)| rest);
    let counts = closing.or_else(|| is_plain_count(line).then_some(line));
    if let Some(counts) = counts {
        return Some(Tally {
            passed: before(counts, " passed")?,
            failed: before(counts, " failed").unwrap_or(0),
        });
    }
    // node --test: "# pass 3" or "ℹ pass 3".
    if let Some(count) = line.strip_prefix("# pass ").or_else(|| line.strip_prefix("ℹ pass ")) {
        return Some(Tally { passed: count.parse().ok()?, failed: 0 });
    }
    if let Some(count) = line.strip_prefix("# fail ").or_else(|| line.strip_prefix("ℹ fail ")) {
        return Some(Tally { passed: 0, failed: count.parse().ok()? });
    }
    // unittest: "Ran 3 tests in 0.1s"; its failures make the step fail.
    if let Some(count) = line.strip_prefix("Ran ").and_then(|rest| rest.split_once(" test")) {
        return Some(Tally { passed: count.0.parse().ok()?, failed: 0 });
    }
    surefire(line)
}

/// "3 passed, 1 failed" and what pytest frames with `=`.
fn is_plain_count(line: &str) -> bool {
    let line = line.trim_matches(['=', ' ']);
    line.starts_with(|c: char| c.is_ascii_digit())
        && (line.contains(" passed, ") || line.contains(" passed in "))
}

/// The last line of Maven's surefire, "Tests run: 3, Failures: 1, Errors: 0, Skipped: 0", which alone has no
/// time and no class behind it.
fn surefire(line: &str) -> Option<Tally> {
    let counts = line.split_once("Tests run: ")?.1;
    if counts.contains("Time elapsed") {
        return None;
    }
    let mut numbers = counts.split(", ").map(|part| part.rsplit(' ').next()?.parse::<u64>().ok());
    let (run, failures, errors) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let failed = failures + errors;
    Some(Tally { passed: run.checked_sub(failed)?, failed })
}

/// The number that stands right before `word`.
fn before(text: &str, word: &str) -> Option<u64> {
    let number = text.split_once(word)?.0.rsplit([' ', ';', ',', '=']).next()?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_read(log: &str, passed: u64, failed: u64) {
        assert_eq!(read(log), Tally { passed, failed }, "{log}");
    }

    #[test]
    fn every_runner_is_understood() {
        assert_read(
            "test result: ok. 3 passed; 0 failed; 1 ignored\n\ntest result: FAILED. 2 passed; 1 failed;",
            5,
            1,
        );
        assert_read("case a ok\n12 passed, 3 failed\n", 12, 3);
        assert_read("===== 7 passed in 0.31s =====", 7, 0);
        assert_read("# tests 4\n# pass 3\n# fail 1\n", 3, 1);
        assert_read("Ran 5 tests in 0.2s\n\nOK", 5, 0);
        let maven = "[INFO] Tests run: 2, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 1 s -- in ClientTest\n\
                     [INFO] Tests run: 6, Failures: 1, Errors: 1, Skipped: 0";
        assert_read(maven, 4, 2);
        assert_read("nothing of the kind, 3 passed by", 0, 0);
    }
}
