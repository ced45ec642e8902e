//! A process of one of Apache's servers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The time limit of a start.
const START: Duration = Duration::from_secs(120);
/// How many bytes of the end of the log an error shows.
const TAIL: usize = 4000;

/// How one of Apache's servers is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Its name in reports, which is also its folder.
    pub(crate) name: String,
    /// The folder of its configuration, its log and its data.
    pub(crate) folder: PathBuf,
    /// The jars.
    pub(crate) class_path: String,
    /// System properties, as arguments.
    pub(crate) system: Vec<String>,
    /// The memory limit of the JVM.
    pub(crate) memory: &'static [&'static str],
    /// The main class.
    pub(crate) main: &'static str,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// The text of the line that reports a successful start.
    pub(crate) ready: &'static str,
}

/// A running server. Dropping it kills the process, unless it was detached.
#[derive(Debug)]
pub(crate) struct Server {
    launch: Launch,
    child: Child,
}

impl Launch {
    /// Starts the server and waits until it is up. A server that outlives this process writes its own log file,
    /// which is read here.
    pub(crate) async fn start(self, detached: bool) -> Result<Server> {
        fs::create_dir_all(&self.folder)?;
        let mut command = Command::new("java");
        command.args(self.memory).args(&self.system).arg("-XX:-OmitStackTraceInFastThrow");
        // Logs and stores go below the home directory.
        command.arg(format!("-Duser.home={}", self.folder.display()));
        command.arg("-cp").arg(self.class_path.trim()).arg(self.main).args(&self.arguments);
        command.env("ROCKETMQ_HOME", &self.folder).env("RMQ_PROXY_HOME", &self.folder);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let log = File::options().create(true).append(true).open(self.log())?;
        let begin = log.metadata()?.len();
        if detached {
            command.stdout(log.try_clone()?).stderr(log).process_group(0);
        } else {
            command.stdout(Stdio::piped()).stderr(log);
        }
        let mut child = command.spawn().context("starting java")?;
        let up = match child.stdout.take() {
            Some(stdout) => timeout(START, self.until_printed(stdout)).await,
            None => timeout(START, self.until_logged(begin, &mut child)).await,
        };
        up.with_context(|| format!("{} did not start in time; {}", self.name, self.log_tail()))??;
        Ok(Server { launch: self, child })
    }

    async fn until_printed(&self, stdout: impl tokio::io::AsyncRead + Unpin + Send + 'static) -> Result<()> {
        let mut log = tokio::fs::File::options().append(true).open(self.log()).await?;
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            log.write_all(format!("{line}\n").as_bytes()).await?;
            if line.contains(self.ready) {
                // Later output is read, so that a full pipe does not block the server.
                tokio::spawn(async move {
                    while let Ok(Some(line)) = lines.next_line().await {
                        let _ = log.write_all(format!("{line}\n").as_bytes()).await;
                    }
                });
                return Ok(());
            }
        }
        bail!("{} exited during its start; {}", self.name, self.log_tail())
    }

    async fn until_logged(&self, begin: u64, child: &mut Child) -> Result<()> {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        loop {
            looks.tick().await;
            let bytes = fs::read(self.log())?;
            let said = bytes.get(usize::try_from(begin).unwrap_or(usize::MAX)..).unwrap_or_default();
            if String::from_utf8_lossy(said).contains(self.ready) {
                return Ok(());
            }
            if child.try_wait()?.is_some() {
                bail!("{} exited during its start; {}", self.name, self.log_tail());
            }
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join("output.log")
    }

    fn log_tail(&self) -> String {
        format!("its output ends with\n{}", tail(&self.log()))
    }
}

impl Server {
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it as `kill -9` does.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("killing {}", self.launch.name))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.with_context(|| format!("{} does not run", self.launch.name))?;
        Ok(kill_process(id, signal)?)
    }

    /// Sends SIGTERM and waits for the process to exit.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let ended = timeout(START, self.child.wait()).await;
        ended.with_context(|| format!("{} does not exit", self.launch.name))??;
        Ok(())
    }

    /// Starts a killed or stopped server again with the same ports and data.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        *self = self.launch.clone().start(false).await?;
        Ok(())
    }

    /// The last lines of its output.
    pub(crate) fn log_tail(&self) -> String {
        self.launch.log_tail()
    }
}

fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned()
}
