//! The list of what is known to fail, so that it is seen when it no longer does.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    case: String,
    language: String,
    server: String,
}

/// The list: a line is `case language server`, each of the last two may be `*`; `#` starts the reason.
#[derive(Debug, Clone, Default)]
pub struct KnownFailing {
    lines: Vec<Line>,
}

impl KnownFailing {
    /// Reads the list; a file that is not there is an empty one.
    ///
    /// # Errors
    /// When a line has not three words, or no reason.
    pub fn load(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        Self::parse(&fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = Vec::new();
        for line in text.lines() {
            let (entry, reason) = line.split_once('#').unwrap_or((line, ""));
            let words: Vec<&str> = entry.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            ensure!(
                words.len() == 3 && !reason.trim().is_empty(),
                "not `case language server # reason`: {line}"
            );
            let [case, language, server] = [words[0], words[1], words[2]].map(str::to_owned);
            lines.push(Line { case, language, server });
        }
        Ok(Self { lines })
    }

    /// Whether this combination is expected to fail.
    #[must_use]
    pub fn contains(&self, case: &str, language: &str, server: &str) -> bool {
        let fits = |pattern: &str, name: &str| pattern == "*" || pattern == name;
        self.lines
            .iter()
            .any(|line| line.case == case && fits(&line.language, language) && fits(&line.server, server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_leave_language_and_server_open() {
        let known = KnownFailing::parse("# a note\nfirst node *  # why\nsecond * scripted # why\n").unwrap();
        assert!(known.contains("first", "node", "merged"));
        assert!(!known.contains("first", "rust", "merged"));
        assert!(known.contains("second", "rust", "scripted"));
        assert!(KnownFailing::parse("first node * \n").is_err());
    }
}
