//! A measured process: its start, its CPU time and memory, its end.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
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
        let stat = fs::read_to_string(self.folder().join("stat"))?;
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

    /// Its threads now.
    pub(crate) fn threads(&self) -> io::Result<usize> {
        Ok(self.status("Threads:")? as usize)
    }

    /// Its established TCP connections now.
    pub(crate) fn connections(&self) -> io::Result<usize> {
        let mut sockets = HashSet::new();
        for descriptor in fs::read_dir(self.folder().join("fd"))? {
            // It may have been closed meanwhile.
            let Ok(target) = fs::read_link(descriptor?.path()) else { continue };
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            sockets.extend(inode.map(str::to_owned));
        }
        let established = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(3) == Some(&"01") && fields.get(9).is_some_and(|inode| sockets.contains(*inode))
        };
        let count = |table: &str| {
            fs::read_to_string(self.folder().join(table))
                .map(|table| table.lines().filter(|line| established(line)).count())
        };
        Ok(count("net/tcp")? + count("net/tcp6").unwrap_or(0))
    }

    fn status_mib(&self, name: &str) -> io::Result<f64> {
        Ok(self.status(name)? / 1024.0)
    }

    /// The number in a line of `/proc/PID/status`.
    fn status(&self, name: &str) -> io::Result<f64> {
        let status = fs::read_to_string(self.folder().join("status"))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
            .ok_or_else(|| io::Error::other(format!("no line {name}")))
    }

    fn folder(&self) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string())
    }
}
