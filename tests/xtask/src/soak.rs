//! `cargo x soak`: hostile peers beside one honest client.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{
    artefacts::{Artefacts, Profile},
    step,
    workspace::Workspace,
};

/// Builds and runs; the program reports by itself.
pub(crate) fn run(workspace: &Workspace, minutes: f64) -> Result<()> {
    step::heading("Getting ready");
    let artefacts = Artefacts::build(workspace, Profile::Tested)?;
    step::heading(&format!("Hostile peers for {minutes} min"));
    let mut soak = Command::new(artefacts.program("soak"));
    soak.arg("--proxy").arg(artefacts.program("rocketmq-thin-proxy")).arg(format!("--minutes={minutes}"));
    ensure!(soak.status()?.success(), "the honest client was disturbed, or the proxy did not recover");
    Ok(())
}
