//! A running proxy, which stops when it is dropped.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{artefacts::Artefacts, workspace::Workspace};

/// How the first line of the proxy's standard output begins.
const LISTENING: &str = "listening on ";

/// A proxy on a free port, with a temporary data folder.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    endpoint: String,
    data: TempDir,
}

impl Proxy {
    /// Starts a merged proxy and waits until it listens. Its log is `target/x/log/proxy.log`.
    pub(crate) fn start(workspace: &Workspace, artefacts: &Artefacts) -> Result<Self> {
        Self::start_with(workspace, artefacts, &[])
    }

    /// Starts a proxy with further arguments.
    pub(crate) fn start_with(
        workspace: &Workspace,
        artefacts: &Artefacts,
        arguments: &[&OsStr],
    ) -> Result<Self> {
        let data = tempfile::tempdir().context("making a data folder")?;
        let log = workspace.cache("log")?.join("proxy.log");
        let mut child = Command::new(artefacts.program("rocketmq-thin-proxy"))
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("starting the proxy")?;
        let mut lines = BufReader::new(child.stdout.take().context("the proxy's output")?);
        let mut first = String::new();
        lines.read_line(&mut first)?;
        // Later output is read, so that a full pipe does not block the proxy.
        thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        let endpoint = first.strip_prefix(LISTENING).map(|address| address.trim().to_owned());
        let proxy = Self { child, endpoint: endpoint.clone().unwrap_or_default(), data };
        endpoint.with_context(|| {
            format!("the proxy said {first:?} and not where it listens; see {}", log.display())
        })?;
        Ok(proxy)
    }

    /// `HOST:PORT`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The folder that holds its messages.
    pub(crate) fn data(&self) -> String {
        self.data.path().display().to_string()
    }
}

impl Drop for Proxy {
    /// The data is temporary, so the proxy is killed rather than shut down.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
