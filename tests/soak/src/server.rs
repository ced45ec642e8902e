//! The proxy under test.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A proxy of its own, killed when dropped.
pub(crate) struct Server {
    process: Child,
    address: String,
    _data: TempDir,
}

/// What a process uses.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    memory_mib: f64,
    descriptors: usize,
}

impl Server {
    pub(crate) async fn start(program: &Path) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path());
        let mut process =
            command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("starting the proxy")?;
        let output = process.stdout.take().context("no output")?;
        let line = BufReader::new(output).lines().next_line().await?.context("the proxy ended")?;
        let address = line.strip_prefix("listening on ").context("the proxy did not say where it listens")?;
        Ok(Self { process, address: address.to_owned(), _data: data })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        let descriptors = fs::read_dir(self.folder()?.join("fd"))?.count();
        Ok(Usage { memory_mib: self.memory("VmRSS:")?, descriptors })
    }

    pub(crate) fn highest_memory(&self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(self.folder()?.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        let kib: f64 = line.split_whitespace().next().context("no number")?.parse()?;
        Ok((kib / 1024.0).round())
    }

    fn folder(&self) -> Result<std::path::PathBuf> {
        let id = self.process.id().context("the proxy ended")?;
        Ok(Path::new("/proc").join(id.to_string()))
    }
}

impl Usage {
    /// Whether this is at most so many times another usage.
    pub(crate) fn within(self, tolerance: f64, other: Self) -> bool {
        let descriptors = |usage: Self| f64::from(u32::try_from(usage.descriptors).unwrap_or(u32::MAX));
        self.memory_mib <= other.memory_mib * tolerance && descriptors(self) <= descriptors(other) * tolerance
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, {} descriptors", self.memory_mib, self.descriptors)
    }
}
