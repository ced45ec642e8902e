//! Runs the examples of every language against a merged proxy and compares their output with one expected text.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    installed::Installed, language::Language, proxy::Proxy, step, tally::Tally, workspace::Workspace,
};

/// The folders below `examples`, in their order.
pub(crate) fn folders(workspace: &Workspace) -> Result<Vec<String>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(workspace.root().join("examples"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            folders.push(name);
        }
    }
    folders.sort();
    Ok(folders)
}

/// Runs every example in the chosen languages.
pub(crate) fn run(workspace: &Workspace, installed: &Installed<'_>, run: &Run<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    for folder in folders(workspace)? {
        let expected = workspace.root().join("examples").join(&folder).join("expected.txt");
        let expected =
            fs::read_to_string(&expected).with_context(|| format!("reading {}", expected.display()))?;
        for language in run.languages {
            let mut program = installed.example(*language, &folder)?;
            let name = format!("example {folder} in {language}");
            let outcome = step::attempt(workspace, &name, program.arg(run.proxy.endpoint()))?;
            let written = outcome.log.text()?;
            let same = written.lines().eq(expected.lines());
            if outcome.ok && !same {
                println!("    expected:\n{expected}\n    written:\n{written}");
            }
            tally.add_one(outcome.ok && same);
        }
    }
    Ok(tally)
}

/// The arguments of an example.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) languages: &'a [Language],
    pub(crate) proxy: &'a Proxy,
}
