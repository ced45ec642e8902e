//! A NATS server and a program on its Go client, built from the Go module proxy.

use std::{fs, path::PathBuf};

use anyhow::Result;

use super::{SOURCES, apache::write_if_changed};
use crate::{
    step,
    tool::{self, Tool},
    workspace::Workspace,
};

const SERVER: &str = "github.com/nats-io/nats-server/v2@v2.15.3";
const CLIENT: &str = "module bench/nats\n\ngo 1.25\n\nrequire github.com/nats-io/nats.go v1.55.0\n";

/// The server and the client. `None` if they can't be built.
pub(super) fn programs(workspace: &Workspace) -> Result<Option<[PathBuf; 2]>> {
    if !tool::missing(&[Tool::Go]).is_empty() {
        return Ok(None);
    }
    let folder = workspace.cache("bench/nats")?;
    let source = workspace.root().join(SOURCES).join("nats/client.go");
    write_if_changed(&folder.join("go.mod"), CLIENT)?;
    write_if_changed(&folder.join("client.go"), &fs::read_to_string(source)?)?;
    let (server, client) = (folder.join("nats-server"), folder.join("client"));
    let mut install = Tool::Go.command();
    install.args(["install", SERVER]).env("GOBIN", &folder).current_dir(&folder);
    let mut build = Tool::Go.command();
    build.args(["build", "-mod=mod", "-o"]).arg(&client).arg(".").current_dir(&folder);
    for (name, command) in [("build the NATS server", &mut install), ("build the NATS client", &mut build)] {
        if !step::attempt(workspace, name, command)?.ok {
            return Ok(None);
        }
    }
    Ok(Some([server, client]))
}
