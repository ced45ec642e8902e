//! `cargo x cluster`: a real Apache RocketMQ on this machine.

use std::{ffi::OsString, process::Command};

use anyhow::{Result, ensure};

use crate::{
    tool::{self, Tool},
    workspace::{Workspace, cargo},
};

/// Builds the cluster program and runs it with these arguments.
pub(crate) fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    tool::refuse(&tool::missing(&[Tool::Jdk, Tool::Maven]), "Without them there is no Apache RocketMQ")?;
    let mut program = Command::new(cargo());
    program.current_dir(workspace.root()).args(["run", "--quiet", "--package", "cluster", "--"]);
    program.args(arguments).arg("--folder").arg(workspace.cache("cluster")?);
    ensure!(program.status()?.success(), "see above");
    Ok(())
}
