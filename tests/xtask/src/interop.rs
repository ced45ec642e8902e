//! `cargo x interop`: Apache's own clients against our proxy.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{
    artefacts::Artefacts,
    step,
    tool::{self, Tool},
    workspace::Workspace,
};

/// What Apache's clients need beside cargo.
pub(crate) const TOOLS: &[Tool] = &[Tool::Jdk, Tool::Maven, Tool::Python, Tool::Node, Tool::Npm, Tool::Go];

/// Builds and runs; the runner speaks for itself.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    step::heading("Getting ready");
    let artefacts = Artefacts::build(workspace)?;
    step::heading("Apache's clients against our proxy");
    ensure!(command(workspace, &artefacts)?.status()?.success(), "not every client passed");
    Ok(())
}

/// The runner, ready to run all of them.
pub(crate) fn command(workspace: &Workspace, artefacts: &Artefacts) -> Result<Command> {
    tool::require(TOOLS, "`cargo x test --without LANGUAGE` leaves interop out.")?;
    let mut runner = Command::new(artefacts.program("interop"));
    runner.current_dir(workspace.root());
    Ok(runner)
}
