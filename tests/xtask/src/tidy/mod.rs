//! `cargo x tidy`: checks the rules of ARCHITECTURE.md, and reports each finding with its place and its reason.

mod arrows;
mod crates;
mod files;
mod source;

use std::{fmt, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use source::Source;

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    why: String,
}

impl Finding {
    fn new(source: &Source, line: usize, why: impl Into<String>) -> Self {
        Self { path: source.path().to_owned(), line, why: why.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.why)
    }
}

/// The rules that look at one file at a time.
const RULES: &[fn(&Source) -> Vec<Finding>] = &[
    arrows::modules,
    arrows::wire_types,
    files::environment,
    files::length,
    files::names,
    files::printing,
    files::root,
    crates::dependencies,
    crates::lints,
];

/// Checks every file that git tracks or would track.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    for source in sources(root)? {
        findings.extend(RULES.iter().flat_map(|rule| rule(&source)));
    }
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    bail!("{} findings:\n{}", lines.len(), lines.join("\n"))
}

fn sources(root: &Path) -> Result<Vec<Source>> {
    let listed = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("asking git for the files")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout)?;
    // A file that was deleted but not yet from git's index has nothing to judge.
    paths.lines().filter(|path| root.join(path).is_file()).map(|path| Source::read(root, path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_editors_like_it() {
        let source = Source::of("core/src/client.rs", "");
        assert_eq!(Finding::new(&source, 3, "why").to_string(), "core/src/client.rs:3: why");
    }
}
