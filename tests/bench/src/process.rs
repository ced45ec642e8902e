//! A measured process: its start, its CPU time and memory, its end.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A child process that reports by lines on its standard output. Dropping it kills the process.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    account: Account,
}

/// The resource usage of a process, as the system reports it.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    pid: u32,
}

impl Process {
    /// Starts a command; its standard error goes to ours.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let pid = child.id().ok_or_else(|| io::Error::other("ended at once"))?;
        Ok(Self { child, lines: BufReader::new(stdout).lines(), account: Account::of(pid) })
    }

    /// Starts a server whose first line says `listening on HOST:PORT`. Returns it, its address, and how long
    /// it took to that line.
    pub(crate) async fn serve(command: Command) -> io::Result<(Self, String, Duration)> {
        let begin = Instant::now();
        let mut process = Self::start(command)?;
        let line = process.line().await?;
        let address = line.strip_prefix("listening on ").ok_or_else(|| {
            io::Error::other(format!("expected \"listening on HOST:PORT\", got \"{line}\""))
        })?;
        Ok((process, address.to_owned(), begin.elapsed()))
    }

    /// The next line of its output.
    pub(crate) async fn line(&mut self) -> io::Result<String> {
        self.lines.next_line().await?.ok_or_else(|| io::Error::other("ended without a word"))
    }

    /// Its standard input.
    pub(crate) fn stdin(&mut self) -> io::Result<&mut ChildStdin> {
        self.child.stdin.as_mut().ok_or_else(|| io::Error::other("no standard input"))
    }

    /// Its resource usage.
    pub(crate) fn account(&self) -> Account {
        self.account
    }
}

impl Account {
    /// The account of the process with this id.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// CPU time used so far by all its threads, from `/proc/PID/stat`, in steps of 10 ms.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(Path::new("/proc").join(self.pid.to_string()).join("stat"))?;
        // The second field is the command in parentheses and may hold blanks: count from behind it.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Resident memory now, in MiB.
    pub(crate) fn resident_mib(&self) -> io::Result<f64> {
        self.status_mib("VmRSS:")
    }

    /// The most memory that was resident so far, in MiB.
    pub(crate) fn highest_resident_mib(&self) -> io::Result<f64> {
        self.status_mib("VmHWM:")
    }

    /// A line of `/proc/PID/status`.
    fn status_mib(&self, name: &str) -> io::Result<f64> {
        let status = fs::read_to_string(Path::new("/proc").join(self.pid.to_string()).join("status"))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
            .ok_or_else(|| io::Error::other(format!("no line {name}")))?;
        Ok(kib / 1024.0)
    }
}
