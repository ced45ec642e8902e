//! `cargo x fleet`: several proxies over real brokers, killed under load.

use std::{ffi::OsString, process::Command};

use anyhow::{Result, ensure};

use crate::{
    artefacts::{Artefacts, Profile},
    maven, step,
    tool::{self, Tool},
    workspace::Workspace,
};

/// The load of message types that our client does not support yet; it uses Apache's Java client.
const JAVA_CLIENT: &str = "tests/interop/java/pom.xml";
/// The classic client that shares a group with ours: one that does not tell a proxy which broker it means.
const CLASSIC_CLIENT: &str = "tests/interop/java/classic/4.9.3.xml";

/// Builds the fleet program and runs it with these arguments.
pub(crate) fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    tool::refuse(&tool::missing(&[Tool::Jdk, Tool::Maven]), "Without them there is no Apache RocketMQ")?;
    step::heading("Getting ready");
    let artefacts = Artefacts::build(workspace, Profile::Tested)?;
    let java_client = maven::class_path(workspace, JAVA_CLIENT)?;
    let classic_client = maven::class_path(workspace, CLASSIC_CLIENT)?;
    step::heading("Faults under load");
    let mut runner = Command::new(artefacts.program("fleet"));
    runner.arg("--proxy").arg(artefacts.program("rocketmq-thin-proxy"));
    runner.arg("--cache").arg(workspace.cache("cluster")?).args(["--java-client", &java_client]);
    runner.args(["--classic-client", &classic_client]);
    ensure!(runner.args(arguments).status()?.success(), "messages were lost, or a client is stuck");
    Ok(())
}
