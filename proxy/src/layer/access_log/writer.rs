//! Writes lines by a thread of its own, so that nobody else waits for the disk.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use tokio::sync::oneshot;

/// Bytes of lines that wait to be written. Others are dropped.
const MAX_WAITING: usize = 4 << 20;
/// Bytes that are written at once.
const BUFFER: usize = 64 << 10;
/// A file may be read by its group, as collectors of logs do.
const MODE: u32 = 0o640;
const STANDARD_ERROR: &str = "-";

pub(super) struct Writer {
    jobs: Sender<Job>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    waiting: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
}

enum Job {
    Line(Vec<u8>),
    Reopen,
    Flush(oneshot::Sender<()>),
}

impl Writer {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let target = Target::open(path)?;
        let (jobs, waiting) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let mut worker = Worker {
            path: path.to_owned(),
            target,
            counts: counts.clone(),
            buffer: Vec::new(),
            lines: 0,
            torn: false,
            failing: false,
        };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || worker.run(&waiting))?;
        Ok(Self { jobs, counts })
    }

    /// Writes a line, or drops it if too many wait.
    pub(super) fn write(&self, line: Vec<u8>) {
        let length = line.len();
        let waiting = self.counts.waiting.fetch_add(length, Ordering::Relaxed);
        if waiting + length > MAX_WAITING || self.jobs.send(Job::Line(line)).is_err() {
            self.counts.waiting.fetch_sub(length, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn reopen(&self) {
        // The thread ends with this.
        let _ = self.jobs.send(Job::Reopen);
    }

    pub(super) async fn flushed(&self) {
        let (done, flushed) = oneshot::channel();
        if self.jobs.send(Job::Flush(done)).is_ok() {
            let _ = flushed.await;
        }
    }

    pub(super) fn lines(&self) -> (u64, u64) {
        let Counts { written, dropped, .. } = &*self.counts;
        (written.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed))
    }
}

enum Target {
    File(File),
    StandardError,
}

impl Target {
    fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new(STANDARD_ERROR) {
            return Ok(Self::StandardError);
        }
        Ok(Self::File(File::options().append(true).create(true).mode(MODE).open(path)?))
    }

    fn write(&mut self, lines: &[u8], torn: &mut bool) -> io::Result<()> {
        match self {
            Self::File(file) => write_lines(file, lines, torn),
            Self::StandardError => write_lines(&mut io::stderr().lock(), lines, torn),
        }
    }
}

/// Writes lines. `torn` says whether the last write has stopped within a line: this one is ended first, so that no other
/// line is lost with it.
fn write_lines(target: &mut dyn Write, lines: &[u8], torn: &mut bool) -> io::Result<()> {
    if *torn {
        target.write_all(b"\n")?;
        *torn = false;
    }
    let mut rest = lines;
    while !rest.is_empty() {
        match target.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                let (written, left) = rest.split_at(count);
                *torn = !written.ends_with(b"\n");
                rest = left;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

struct Worker {
    path: PathBuf,
    target: Target,
    counts: Arc<Counts>,
    /// Whole lines that are not written yet.
    buffer: Vec<u8>,
    lines: u64,
    /// Whether the last write has stopped within a line.
    torn: bool,
    failing: bool,
}

impl Worker {
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            self.take(first);
            // What has come meanwhile shares a write.
            while self.buffer.len() < BUFFER
                && let Ok(next) = jobs.try_recv()
            {
                self.take(next);
            }
            self.write();
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Line(line) => {
                self.buffer.extend_from_slice(&line);
                self.lines += 1;
            }
            Job::Reopen => {
                self.write();
                match Target::open(&self.path) {
                    Ok(target) => self.target = target,
                    Err(error) => {
                        let path = self.path.display();
                        tracing::error!(%error, %path, "the access log can't be opened again, and goes on as it was");
                    }
                }
            }
            Job::Flush(done) => {
                self.write();
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = self.target.write(&self.buffer, &mut self.torn);
        self.counts.waiting.fetch_sub(self.buffer.len(), Ordering::Relaxed);
        let counter = if written.is_ok() { &self.counts.written } else { &self.counts.dropped };
        counter.fetch_add(self.lines, Ordering::Relaxed);
        if let Err(error) = &written
            && !self.failing
        {
            tracing::error!(%error, path = %self.path.display(), "the access log can't be written: lines are dropped");
        }
        self.failing = written.is_err();
        self.buffer.clear();
        self.lines = 0;
    }
}

// Other systems have no such devices.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[tokio::test]
    async fn a_file_that_was_renamed_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let (now, before) = (folder.path().join("log"), folder.path().join("log.1"));
        let writer = Writer::open(&now).expect("a file");
        writer.write(b"one\n".to_vec());
        writer.flushed().await;
        std::fs::rename(&now, &before).expect("renamed");
        writer.write(b"two\n".to_vec());
        writer.reopen();
        writer.write(b"three\n".to_vec());
        writer.flushed().await;
        let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
        assert_eq!((read(&before).as_str(), read(&now).as_str()), ("one\ntwo\n", "three\n"));
        assert_eq!(writer.lines(), (3, 0));
    }

    #[test]
    fn a_write_that_stops_within_a_line_costs_no_other_line() {
        struct Disk(Vec<u8>, usize);
        impl Write for Disk {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let room = self.1.saturating_sub(self.0.len()).min(bytes.len());
                self.0.extend_from_slice(&bytes[..room]);
                if room == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(room) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut disk, mut torn) = (Disk(Vec::new(), 6), false);
        for lost in ["one\ntwo\n", "lost\n"] {
            assert!(write_lines(&mut disk, lost.as_bytes(), &mut torn).is_err());
        }
        disk.1 = 1000;
        write_lines(&mut disk, b"three\nfour\n", &mut torn).expect("room");
        write_lines(&mut disk, b"five\n", &mut torn).expect("room");
        assert_eq!(String::from_utf8_lossy(&disk.0), "one\ntw\nthree\nfour\nfive\n");
    }

    #[tokio::test]
    async fn a_full_disk_costs_lines() {
        let writer = Writer::open(Path::new("/dev/full")).expect("a device");
        writer.write(b"lost\n".to_vec());
        writer.flushed().await;
        assert_eq!(writer.lines(), (0, 1));
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_up_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        let reader = thread::spawn({
            let path = path.clone();
            move || File::open(path).expect("a reader")
        });
        let writer = Writer::open(&path).expect("a pipe");
        let _never_reads = reader.join().expect("a reader");
        let line = vec![b'x'; 1 << 20];
        (0..8).for_each(|_| writer.write(line.clone()));
        let (written, dropped) = writer.lines();
        assert_eq!(written, 0);
        assert!(dropped >= 4, "{dropped}");
    }
}
