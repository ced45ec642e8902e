//! Our proxy as a process that can be killed and started again.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// A start that takes longer has failed.
const START: Duration = Duration::from_secs(60);

/// Bytes of the log's end that an error shows.
const TAIL: usize = 4000;

/// A running proxy with a data directory of its own; killed when dropped.
#[derive(Debug)]
pub struct Proxy {
    program: PathBuf,
    arguments: Vec<String>,
    folder: TempDir,
    address: String,
    child: Child,
}

impl Proxy {
    /// Starts `program` with these arguments on a free port and with an empty data directory.
    ///
    /// # Errors
    /// When it ends or does not say where it listens; the error shows the end of its log.
    pub async fn start(program: &Path, arguments: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (child, address) = launch(program, arguments, (folder.path(), "127.0.0.1:0")).await?;
        let arguments = arguments.to_vec();
        Ok(Self { program: program.to_owned(), arguments, folder, address, child })
    }

    /// `HOST:PORT` where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills the process as `kill -9` does and starts it again on the same port and data.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn kill_and_restart(&mut self) -> Result<()> {
        self.child.kill().await.context("killing the proxy")?;
        let place = (self.folder.path(), self.address.as_str());
        let (child, address) = launch(&self.program, &self.arguments, place).await?;
        anyhow::ensure!(address == self.address, "restarted on {address}, not {}", self.address);
        self.child = child;
        Ok(())
    }

    /// Makes the topics and groups of `file`, which is in the JSON form of `rocketmq-thin-proxy apply`.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn apply(&self, file: &str) -> Result<()> {
        let mut child = Command::new(&self.program)
            .args(["apply", "-", "--server", &self.address])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        child.stdin.take().context("no stdin")?.write_all(file.as_bytes()).await?;
        let output = child.wait_with_output().await?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(self.folder.path())
    }
}

async fn launch(
    program: &Path,
    arguments: &[String],
    (folder, listen): (&Path, &str),
) -> Result<(Child, String)> {
    let log = File::options().create(true).append(true).open(folder.join("proxy.log"))?;
    let mut child = Command::new(program)
        .args(["--listen", listen, "--data-dir"])
        .arg(folder.join("data"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let stdout = child.stdout.take().context("no stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let first = timeout(START, lines.next_line()).await.context("waiting for the proxy to listen")??;
    let Some(address) = first.as_deref().and_then(|line| line.strip_prefix("listening on ")) else {
        bail!("the proxy's first line is {first:?}; its log ends with\n{}", log_tail(folder));
    };
    let address = address.to_owned();
    // Whatever else it prints is read, so that it never waits for us.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, address))
}

fn log_tail(folder: &Path) -> String {
    let bytes = fs::read(folder.join("proxy.log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned()
}
