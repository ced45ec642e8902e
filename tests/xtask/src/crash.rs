//! `cargo x crash`: the proxy killed under load, and its disk losing what was not synced.

use std::{ffi::OsString, path::PathBuf, process::Command};

use anyhow::{Result, ensure};

use crate::{
    artefacts::{Artefacts, Profile},
    step,
    workspace::Workspace,
};

/// Builds the program and runs it with these arguments.
pub(crate) fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    step::heading("Getting ready");
    let artefacts = Artefacts::build(workspace, Profile::Tested)?;
    let mut crash = command(workspace, &artefacts)?;
    step::heading("Crashes under load");
    ensure!(crash.args(arguments).status()?.success(), "the broker did not keep what it had promised");
    Ok(())
}

/// The program. Without arguments it makes a short run.
pub(crate) fn command(workspace: &Workspace, artefacts: &Artefacts) -> Result<Command> {
    let mut crash = Command::new(artefacts.program("crash"));
    crash.arg("--proxy").arg(artefacts.program("rocketmq-thin-proxy"));
    // The library that follows the writes is for Linux.
    if cfg!(target_os = "linux") {
        crash.arg("--shim").arg(shim(workspace)?);
    }
    Ok(crash)
}

/// Compiles the library that is preloaded into the proxy.
fn shim(workspace: &Workspace) -> Result<PathBuf> {
    let library = workspace.cache("crash")?.join("synced.so");
    let mut compile = Command::new("cc");
    compile.args(["-std=gnu11", "-Wall", "-O1", "-shared", "-fPIC", "-pthread", "-o"]).arg(&library);
    compile.arg(workspace.root().join("tests/crash/shim/synced.c"));
    step::run(workspace, "compile the library for power losses", &mut compile)?;
    Ok(library)
}
