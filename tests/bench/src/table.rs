//! The printed table: workload, figure, target.

use std::time::Duration;

/// The CPU time and wall time of a workload.
pub(crate) struct Spent {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    pub(crate) messages: usize,
}

/// Prints rows as they are measured.
pub(crate) struct Table;

#[allow(clippy::print_stdout)]
impl Table {
    pub(crate) fn begin() -> Self {
        let table = Self;
        table.row("what (CPU is the measured process's, per 1 KiB message)", "figure".to_owned(), "to reach");
        table
    }

    pub(crate) fn row(&self, what: &str, figure: String, target: &str) {
        println!("{what:<56} {figure:>26}   {target}");
    }

    pub(crate) fn memory(&self, what: &str, mib: f64, target: &str) {
        self.row(what, format!("{:.0} MB", mib * 1.048_576), target);
    }

    pub(crate) fn work(&self, what: &str, spent: &Spent, target: &str) {
        let micros = spent.cpu.as_secs_f64() * 1e6 / spent.messages as f64;
        let rate = spent.messages as f64 / spent.wall.as_secs_f64();
        self.row(what, format!("{micros:.1} us  {rate:>8.0} msg/s"), target);
    }
}
