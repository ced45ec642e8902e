//! The printed table: workload, figure, target.

use std::time::Duration;

/// The CPU time and wall time of a workload.
pub(crate) struct Spent {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    pub(crate) messages: usize,
}

impl Spent {
    /// CPU per message, in microseconds.
    pub(crate) fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.messages as f64
    }

    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.wall.as_secs_f64()
    }
}

/// Prints rows with our figure and Apache's.
pub(crate) struct Beside;

#[allow(clippy::print_stdout)]
impl Beside {
    pub(crate) fn begin(what: &str) -> Self {
        println!();
        Self::print(what, ["ours", "Apache's"], "to reach");
        Self
    }

    pub(crate) fn row(&self, what: &str, figures: &[String], target: &str) {
        let figure = |at: usize| figures.get(at).map_or("", String::as_str);
        Self::print(what, [figure(0), figure(1)], target);
    }

    fn print(what: &str, [ours, apaches]: [&str; 2], target: &str) {
        println!("{what:<52} {ours:>42} {apaches:>42}   {target}");
    }
}

/// The figures of a server.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) figures: Vec<String>,
}

/// Prints servers beside each other.
pub(crate) struct Columns;

#[allow(clippy::print_stdout)]
impl Columns {
    /// Rows have a name and a target.
    pub(crate) fn print(rows: &[(&str, &str)], columns: &[Column]) {
        let names = columns.iter().map(|column| column.name);
        Self::line("CPU is the server's, per 1 KiB message", names, "to reach");
        for (row, (name, target)) in rows.iter().enumerate() {
            Self::line(name, columns.iter().map(|column| column.figures[row].as_str()), target);
        }
    }

    pub(crate) fn note(what: &str, text: &str) {
        println!("{what:<40} {text}");
    }

    fn line<'a>(what: &str, figures: impl Iterator<Item = &'a str>, target: &str) {
        let figures: String = figures.map(|figure| format!("{figure:>26}")).collect();
        println!("{what:<40}{figures}   {target}");
    }
}

/// Prints rows as they are measured.
pub(crate) struct Table;

#[allow(clippy::print_stdout)]
impl Table {
    pub(crate) fn begin() -> Self {
        Self::titled("what (CPU is the measured process's, per 1 KiB message)")
    }

    pub(crate) fn titled(title: &str) -> Self {
        let table = Self;
        table.row(title, "figure".to_owned(), "to reach");
        table
    }

    pub(crate) fn row(&self, what: &str, figure: String, target: &str) {
        println!("{what:<56} {figure:>26}   {target}");
    }

    pub(crate) fn memory(&self, what: &str, mib: f64, target: &str) {
        self.row(what, format!("{:.0} MB", mib * 1.048_576), target);
    }

    pub(crate) fn work(&self, what: &str, spent: &Spent, target: &str) {
        self.row(what, format!("{:.1} us  {:>8.0} msg/s", spent.micros(), spent.rate()), target);
    }
}
