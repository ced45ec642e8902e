//! `cargo x fleet`: several proxies over real brokers, killed under load.

use std::{ffi::OsString, process::Command};

use anyhow::{Result, ensure};

use crate::{
    artefacts::{Artefacts, Profile},
    maven, step,
    tool::{self, Tool},
    workspace::Workspace,
};

/// Apache's Java client, which does the load that ours can't yet.
const JAVA_CLIENT: &str = "tests/interop/java/pom.xml";

/// Builds and runs with these arguments; the runner speaks for itself.
pub(crate) fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    tool::refuse(&tool::missing(&[Tool::Jdk, Tool::Maven]), "Without them there is no Apache RocketMQ")?;
    step::heading("Getting ready");
    let artefacts = Artefacts::build(workspace, Profile::Tested)?;
    let java_client = maven::class_path(workspace, JAVA_CLIENT)?;
    step::heading("Faults under load");
    let mut runner = Command::new(artefacts.program("fleet"));
    runner.arg("--proxy").arg(artefacts.program("rocketmq-thin-proxy"));
    runner.arg("--cache").arg(workspace.cache("cluster")?).args(["--java-client", &java_client]);
    ensure!(runner.args(arguments).status()?.success(), "something was lost, or somebody is stuck");
    Ok(())
}
