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
pub struct Server {
    process: Child,
    address: String,
    data: TempDir,
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory.
    pub memory_mib: f64,
    /// Open sockets. The storage's files have a limit of their own.
    pub sockets: usize,
    /// Open descriptors of any kind.
    pub descriptors: usize,
}

impl Server {
    /// Starts a proxy with a data directory of its own.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(program: &Path) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--http", "true", "--data-dir"]).arg(data.path());
        let mut process =
            command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("starting the proxy")?;
        let output = process.stdout.take().context("no output")?;
        let line = BufReader::new(output).lines().next_line().await?.context("the proxy ended")?;
        let address = line.strip_prefix("listening on ").context("the proxy did not say where it listens")?;
        Ok(Self { process, address: address.to_owned(), data })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The folder of its data.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// What it uses now.
    ///
    /// # Errors
    /// If it has ended.
    pub fn usage(&self) -> Result<Usage> {
        let (descriptors, sockets) = descriptors(&self.folder()?)?;
        Ok(Usage { memory_mib: self.memory("VmRSS:")?, sockets, descriptors })
    }

    /// The most MiB of memory that it used so far.
    ///
    /// # Errors
    /// If it has ended.
    pub fn highest_memory(&self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(self.folder()?.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        let kib: f64 = line.split_whitespace().next().context("no number")?.parse()?;
        Ok(kib / 1024.0)
    }

    fn folder(&self) -> Result<std::path::PathBuf> {
        let id = self.process.id().context("the proxy ended")?;
        Ok(Path::new("/proc").join(id.to_string()))
    }
}

/// How many descriptors a process has, and how many of them are sockets. Takes its folder in /proc.
///
/// # Errors
/// If there is no such process.
pub fn descriptors(process: &Path) -> Result<(usize, usize)> {
    let (mut all, mut sockets) = (0, 0);
    for entry in fs::read_dir(process.join("fd"))? {
        all += 1;
        // One that was closed meanwhile can't be read.
        let target = fs::read_link(entry?.path()).unwrap_or_default();
        sockets += usize::from(target.to_string_lossy().starts_with("socket:"));
    }
    Ok((all, sockets))
}

impl Usage {
    /// Whether memory and sockets are at most so many times those of another usage.
    #[must_use]
    pub fn within(self, tolerance: f64, other: Self) -> bool {
        let sockets = |usage: Self| f64::from(u32::try_from(usage.sockets).unwrap_or(u32::MAX));
        self.memory_mib <= other.memory_mib * tolerance && sockets(self) <= sockets(other) * tolerance
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory_mib, sockets, descriptors } = self;
        write!(f, "{memory_mib:.1} MiB, {descriptors} descriptors, {sockets} of them sockets")
    }
}
