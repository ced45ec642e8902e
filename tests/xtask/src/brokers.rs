//! A running Apache RocketMQ cluster, which separated mode is tested on.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{artefacts::Artefacts, step, workspace::Workspace};

/// The oldest broker version that the proxy is tested with.
pub(crate) const OLDEST: &str = "5.3.3";

/// A running name server, broker and Apache proxy. Dropping it stops them.
pub(crate) struct Brokers {
    program: PathBuf,
    folder: PathBuf,
    /// The version; `None` means the newest.
    pub(crate) version: Option<String>,
    /// The address of the name server.
    pub(crate) name_server: String,
    /// The address of Apache's proxy.
    pub(crate) apache_proxy: String,
}

impl Brokers {
    /// Starts a cluster of the given version. The first start downloads its packages.
    pub(crate) fn start(workspace: &Workspace, artefacts: &Artefacts, version: Option<&str>) -> Result<Self> {
        let program = artefacts.program("cluster");
        // Clusters of different versions may run at the same time.
        let folder = workspace.cache(&format!("test-cluster/{}", version.unwrap_or("newest")))?;
        let what = version.map_or_else(String::new, |version| format!(" {version}"));
        // Servers of an earlier run that was killed.
        step::run(
            workspace,
            &format!("end brokers{what} of an earlier run"),
            Command::new(&program).arg("down").arg("--folder").arg(&folder),
        )?;
        let mut up = Command::new(&program);
        up.args(["up", "--with-apache-proxy", "--folder"]).arg(&folder);
        up.args(version.iter().flat_map(|version| ["--version", version]));
        step::run(workspace, &format!("start Apache's name server, broker and proxy{what}"), &mut up)?;
        let state = std::fs::read(folder.join("state.json")).context("reading what was started")?;
        let state: Value = serde_json::from_slice(&state)?;
        let (Some(name_server), Some(apache_proxy)) =
            (state["name_server"].as_str(), state["apache_proxy"].as_str())
        else {
            bail!("the cluster does not say where it listens: {state}");
        };
        Ok(Self {
            version: version.map(str::to_owned),
            name_server: name_server.to_owned(),
            apache_proxy: apache_proxy.to_owned(),
            program,
            folder,
        })
    }

    /// Passes the addresses to a runner.
    pub(crate) fn tell(&self, runner: &mut Command) {
        runner.args(["--name-server", &self.name_server, "--apache-proxy", &self.apache_proxy]);
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        let mut down = Command::new(&self.program);
        down.arg("down").arg("--folder").arg(&self.folder).stdout(std::process::Stdio::null());
        // The next start stops them if this fails.
        let _ = down.status();
    }
}
