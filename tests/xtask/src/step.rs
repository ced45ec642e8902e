//! Runs a program as a step: prints one line with its name and duration, writes its output to a log file, and
//! shows the end of that log if it fails.

use std::{
    cell::Cell,
    env,
    ffi::OsString,
    fs::{self, File},
    io::{IsTerminal, Write, stdout},
    panic::resume_unwind,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// How many lines at the end of a failed program's log are shown.
const TAIL: usize = 40;

/// What marks a line of a log that names a failure, how many lines are shown from there, and how many such lines.
const FAILURES: [&str; 2] = [" FAILED", " panicked at "];
const FAILURE_LINES: usize = 4;
const MAX_FAILURES: usize = 10;

/// How often a waiting terminal line is redrawn.
const REDRAW: Duration = Duration::from_millis(250);

thread_local! {
    /// Whether steps of other threads run at the same time.
    static BESIDE: Cell<bool> = const { Cell::new(false) };
}

/// Does `work` while steps of other threads run: each of its steps prints its line when it has ended.
fn beside<T>(work: impl FnOnce() -> T) -> T {
    let before = BESIDE.replace(true);
    let result = work();
    BESIDE.set(before);
    result
}

/// Does `work` for each item at the same time, and returns the results in the order of the items.
pub(crate) fn side_by_side<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let running: Vec<_> = items.iter().map(|item| scope.spawn(move || beside(|| work(item)))).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Does two things at the same time.
pub(crate) fn both<A, B: Send>(first: impl FnOnce() -> A, second: impl FnOnce() -> B + Send) -> (A, B) {
    thread::scope(|scope| {
        let running = scope.spawn(|| beside(second));
        let first = beside(first);
        (first, running.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// The output of a step: standard output and standard error together.
#[derive(Debug)]
pub(crate) struct Log(PathBuf);

impl Log {
    /// The whole text.
    pub(crate) fn text(&self) -> Result<String> {
        let bytes = fs::read(&self.0).with_context(|| format!("reading {}", self.0.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The result of a program that was started.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether it succeeded.
    pub(crate) ok: bool,
    /// Its output.
    pub(crate) log: Log,
}

/// Prints a heading above a group of steps.
pub(crate) fn heading(title: &str) {
    println!("\n{title}");
}

/// Runs `command` as the step `name`. Fails if it cannot be started or does not succeed.
pub(crate) fn run(workspace: &Workspace, name: &str, command: &mut Command) -> Result<Log> {
    let outcome = attempt(workspace, name, command)?;
    ensure!(outcome.ok, "{name} failed; its whole output is in {}", outcome.log.0.display());
    Ok(outcome.log)
}

/// Runs `command` as the step `name` and shows the end of its log if it fails. Returns an error only if it cannot
/// be started.
pub(crate) fn attempt(workspace: &Workspace, name: &str, command: &mut Command) -> Result<Outcome> {
    Running::start(workspace, name, command)?.end()
}

/// A running step.
struct Running {
    name: String,
    log: PathBuf,
    started: Instant,
    child: Child,
}

/// Where the system looks for libraries first. Cargo puts its own folders there for programs that it runs.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// The library path without cargo's output folders: a JVM would load the libraries of another profile from there.
fn library_path(workspace: &Workspace) -> Option<OsString> {
    let path = env::var_os(LIBRARY_PATH)?;
    let others = env::split_paths(&path).filter(|folder| !folder.starts_with(workspace.target()));
    env::join_paths(others).ok()
}

/// Removes cargo's output folders from the library path of a program that loads one of our libraries.
pub(crate) fn set_library_path(workspace: &Workspace, command: &mut Command) {
    if let Some(path) = library_path(workspace) {
        command.env(LIBRARY_PATH, path);
    }
}

impl Running {
    fn start(workspace: &Workspace, name: &str, command: &mut Command) -> Result<Self> {
        let log = workspace.cache("log")?.join(format!("{}.log", file_name(name)));
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        set_library_path(workspace, command);
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Self { name: name.to_owned(), log, started: Instant::now(), child })
    }

    fn end(mut self) -> Result<Outcome> {
        announce(&self.name);
        let ok = self.wait()?;
        let log = Log(self.log);
        let mut tail = String::new();
        if !ok {
            tail = excerpt(&log.text()?);
        }
        finish(&self.name, if ok { "ok" } else { "FAILED" }, self.started, &tail);
        Ok(Outcome { ok, log })
    }

    fn wait(&mut self) -> Result<bool> {
        if BESIDE.get() || !stdout().is_terminal() {
            return Ok(self.child.wait()?.success());
        }
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            if self.started.elapsed() > REDRAW * 4 {
                self.redraw();
            }
            thread::sleep(REDRAW);
        }
    }

    fn redraw(&self) {
        let text = Log(self.log.clone()).text().unwrap_or_default();
        let last: String = text.lines().last().unwrap_or_default().trim().chars().take(50).collect();
        print!("\r\x1b[2K  {} … {} s  {last}", self.name, self.started.elapsed().as_secs());
        flush();
    }
}

/// The lines of a failed program's log to show: where it names a failure, and its end.
fn excerpt(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (before, tail) = lines.split_at(lines.len().saturating_sub(TAIL));
    let failures = (0..before.len()).filter(|&at| FAILURES.iter().any(|mark| before[at].contains(mark)));
    let shown =
        failures.take(MAX_FAILURES).flat_map(|at| before[at..].iter().take(FAILURE_LINES).chain([&"…"]));
    shown.chain(tail).copied().collect::<Vec<_>>().join("\n")
}

/// Runs our own code as the step `name`.
pub(crate) fn perform<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    announce(name);
    let result = work();
    finish(name, if result.is_ok() { "ok" } else { "FAILED" }, started, "");
    result
}

fn announce(name: &str) {
    if !BESIDE.get() {
        print!("  {name} … ");
        flush();
    }
}

/// Prints the end of a step, and the end of its log if it failed, in one piece.
fn finish(name: &str, result: &str, started: Instant, tail: &str) {
    let again = match (BESIDE.get(), stdout().is_terminal()) {
        (true, _) => format!("  {name} … "),
        (false, true) => format!("\r\x1b[2K  {name} … "),
        (false, false) => String::new(),
    };
    let end = if tail.is_empty() { "" } else { "\n" };
    println!("{again}{result} ({:.1} s){end}{tail}", started.elapsed().as_secs_f64());
}

/// Flushes standard output. A closed pipe does not fail a build.
fn flush() {
    let _ = stdout().flush();
}

fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_has_the_failures_and_the_end() {
        let mut lines: Vec<String> = (0..100).map(|at| format!("test {at} ... ok")).collect();
        lines[10] = "test broken ... FAILED".to_owned();
        lines[20] = "thread 'broken' panicked at file.rs:1:2:".to_owned();
        let excerpt = excerpt(&lines.join("\n"));
        let shown: Vec<&str> = excerpt.lines().collect();
        assert_eq!(shown[0], "test broken ... FAILED");
        assert_eq!(shown[4..7], ["…", "thread 'broken' panicked at file.rs:1:2:", "test 21 ... ok"]);
        assert_eq!(shown[9..].len(), 1 + TAIL);
        assert_eq!(shown.last(), Some(&"test 99 ... ok"));
    }
}
