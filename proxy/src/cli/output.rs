//! How subcommands print: their results as text or as JSON, notes, and errors.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;

/// Prints an answer to standard output. A reader that ends first, such as `head`, is not an error.
pub(super) fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Prints a note or progress to standard error.
#[allow(clippy::print_stderr, reason = "notes and progress are not part of the answer")]
pub(super) fn print_note(text: &str) {
    eprintln!("{text}");
}

/// Prints an error to standard error.
#[allow(clippy::print_stderr, reason = "a command line reports errors on standard error")]
pub(super) fn print_error(error: &dyn std::error::Error) {
    eprintln!("error: {error}");
}

/// The result of a subcommand. It is serialized for `--json`.
pub(super) trait Report: Serialize {
    /// The result as text.
    fn text(&self) -> String;
}

/// Prints a result.
pub(super) fn show(report: &impl Report, json: bool) -> std::io::Result<()> {
    match json {
        true => print(&serde_json::to_string_pretty(report)?),
        false => print(&report.text()),
    }
}

/// The result of a command that has changed something.
#[derive(Serialize)]
pub(super) struct ActionReport {
    /// What was done, such as `created`.
    pub(super) done: &'static str,
    /// The kind of object, such as `topic`.
    pub(super) kind: &'static str,
    /// The name of the object.
    pub(super) name: String,
}

impl Report for ActionReport {
    fn text(&self) -> String {
        format!("{} {} {}", self.done, self.kind, self.name)
    }
}

/// A table with aligned columns.
pub(super) struct Table<const N: usize>(Vec<[String; N]>);

impl<const N: usize> Table<N> {
    /// A table with this header.
    pub(super) fn new(header: [&str; N]) -> Self {
        Self(vec![header.map(str::to_owned)])
    }

    /// Adds a row.
    pub(super) fn row(&mut self, row: [String; N]) {
        self.0.push(row);
    }

    /// The aligned lines, without trailing spaces.
    pub(super) fn text(&self) -> String {
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
        let mut text = String::new();
        for row in &self.0 {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            // Writing to a String can't fail.
            let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        text
    }
}

/// A text as a table cell: control characters are escaped, and the text is truncated after `max` characters.
pub(super) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == max {
            line.push('…');
            break;
        }
        if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["A", "BB"]);
        table.row(["long", "x"].map(str::to_owned));
        assert_eq!(table.text(), "A     BB\nlong  x\n");
    }

    #[test]
    fn a_cell_has_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[2J", 20), "a\\nb\\u{1b}[2J");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }
}
