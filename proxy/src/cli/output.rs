//! What the subcommands print: for people, or as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::print;

/// An answer to a subcommand.
pub(super) trait Report: Serialize {
    /// The answer for people.
    fn text(&self) -> String;
}

/// Prints an answer.
pub(super) fn show(report: &impl Report, json: bool) -> std::io::Result<()> {
    match json {
        true => print(&serde_json::to_string_pretty(report)?),
        false => print(&report.text()),
    }
}

/// That something was done.
#[derive(Serialize)]
pub(super) struct Done {
    /// What was done, such as `created`.
    pub(super) done: &'static str,
    /// To what, such as `topic`.
    pub(super) kind: &'static str,
    /// Its name.
    pub(super) name: String,
}

impl Report for Done {
    fn text(&self) -> String {
        format!("{} {} {}", self.done, self.kind, self.name)
    }
}

/// A table whose columns line up.
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

    /// The lines.
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

/// A text in one line, for a cell of a table: what would break the line or the terminal is escaped.
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
    fn columns_line_up() {
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
