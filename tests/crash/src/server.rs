//! The proxy under test: started again and again on one data directory, and killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A start that takes longer has failed.
const START: Duration = Duration::from_secs(60);
/// Bytes of the log's end that an error shows.
const TAIL: usize = 4000;

/// How to start the proxy.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// The program.
    pub(crate) program: PathBuf,
    /// Where the configuration, the log and the data are.
    pub(crate) folder: PathBuf,
    /// The library that keeps a copy of what was synced, if the disk is to lose the rest.
    pub(crate) shim: Option<PathBuf>,
}

/// A running proxy, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    address: String,
}

impl Launch {
    /// Writes the configuration and makes an empty data directory.
    pub(crate) fn prepare(&self, configuration: &str) -> Result<()> {
        fs::create_dir_all(self.data())?;
        fs::write(self.folder.join("proxy.toml"), configuration)?;
        Ok(())
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where the copy of what was synced is.
    pub(crate) fn synced(&self) -> PathBuf {
        self.folder.join("synced")
    }

    /// Starts the process, which has not opened its data when this returns.
    pub(crate) fn spawn(&self) -> Result<Child> {
        let log = File::options().create(true).append(true).open(self.folder.join("proxy.log"))?;
        let mut command = Command::new(&self.program);
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(self.data());
        command.arg("--config").arg(self.folder.join("proxy.toml"));
        if let Some(shim) = &self.shim {
            remove(&self.synced())?;
            fs::create_dir(self.synced())?;
            command.env("LD_PRELOAD", shim);
            command.env("CRASH_DATA", self.data()).env("CRASH_SHADOW", self.synced());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        command.spawn().with_context(|| format!("starting {}", self.program.display()))
    }

    /// Starts the proxy and waits until it listens.
    ///
    /// # Errors
    /// When it does not. The error shows the end of its log.
    pub(crate) async fn start(&self) -> Result<Server> {
        let mut process = self.spawn()?;
        let output = process.stdout.take().context("no output")?;
        let mut lines = BufReader::new(output).lines();
        let line = timeout(START, lines.next_line()).await.context("waiting for the proxy to listen")??;
        let Some(address) = line.as_deref().and_then(|line| line.strip_prefix("listening on ")) else {
            bail!("the proxy did not start ({line:?}); its log ends with\n{}", self.log_tail());
        };
        Ok(Server { process, address: address.to_owned() })
    }

    /// The end of the log of all starts.
    pub(crate) fn log_tail(&self) -> String {
        let bytes = fs::read(self.folder.join("proxy.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned()
    }
}

impl Server {
    /// `HOST:PORT` where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub(crate) async fn kill(mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("the proxy ended by itself: {status}");
        }
        self.process.kill().await.context("killing the proxy")
    }
}

/// Removes a folder, if it exists.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}
