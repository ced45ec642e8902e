//! Writes the lines of the access log on a separate thread, so that requests don't wait for the disk.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use tokio::sync::oneshot;

use crate::layer::WriteCounts;

/// The maximum size of the lines that wait to be written, in bytes. Further lines are dropped.
const MAX_QUEUED_BYTES: usize = 4 << 20;
/// The number of bytes after which a write is not extended by further lines.
const WRITE_BYTES: usize = 64 << 10;
/// The mode of a new file. Its group may read it, as log collectors do.
const FILE_MODE: u32 = 0o640;
const STANDARD_ERROR: &str = "-";

pub(super) struct LineWriter {
    jobs: Sender<Job>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    queued_bytes: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
}

enum Job {
    Line(Vec<u8>),
    Reopen,
    Flush(oneshot::Sender<()>),
}

impl LineWriter {
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

    /// Queues a line, or drops it if too many bytes are queued.
    pub(super) fn write(&self, line: Vec<u8>) {
        let length = line.len();
        let queued = self.counts.queued_bytes.fetch_add(length, Ordering::Relaxed);
        if queued + length > MAX_QUEUED_BYTES || self.jobs.send(Job::Line(line)).is_err() {
            self.counts.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn reopen(&self) {
        // The thread runs as long as this sender exists.
        let _ = self.jobs.send(Job::Reopen);
    }

    pub(super) async fn flushed(&self) {
        let (done, flushed) = oneshot::channel();
        if self.jobs.send(Job::Flush(done)).is_ok() {
            let _ = flushed.await;
        }
    }

    pub(super) fn lines(&self) -> WriteCounts {
        WriteCounts {
            written: self.counts.written.load(Ordering::Relaxed),
            dropped: self.counts.dropped.load(Ordering::Relaxed),
        }
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
        Ok(Self::File(File::options().append(true).create(true).mode(FILE_MODE).open(path)?))
    }

    fn write(&mut self, lines: &[u8], torn: &mut bool) -> io::Result<()> {
        match self {
            Self::File(file) => write_lines(file, lines, torn),
            Self::StandardError => write_lines(&mut io::stderr().lock(), lines, torn),
        }
    }
}

/// Writes lines. `torn` says whether the last write stopped within a line. That line is terminated first, so that it does not
/// spoil the next one.
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
            // Lines that were queued meanwhile are written together.
            while self.buffer.len() < WRITE_BYTES
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
                        tracing::error!(%error, %path, "failed to reopen the access log, continuing with the previous file");
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
        self.counts.queued_bytes.fetch_sub(self.buffer.len(), Ordering::Relaxed);
        let counter = if written.is_ok() { &self.counts.written } else { &self.counts.dropped };
        counter.fetch_add(self.lines, Ordering::Relaxed);
        if let Err(error) = &written
            && !self.failing
        {
            tracing::error!(%error, path = %self.path.display(), "failed to write the access log, dropping lines");
        }
        self.failing = written.is_err();
        self.buffer.clear();
        self.lines = 0;
    }
}

// The tests use devices of Linux.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[tokio::test]
    async fn reopening_creates_a_new_file_after_a_rename() {
        let folder = tempfile::tempdir().expect("a folder");
        let (now, before) = (folder.path().join("log"), folder.path().join("log.1"));
        let writer = LineWriter::open(&now).expect("a file");
        writer.write(b"one\n".to_vec());
        writer.flushed().await;
        std::fs::rename(&now, &before).expect("renamed");
        writer.write(b"two\n".to_vec());
        writer.reopen();
        writer.write(b"three\n".to_vec());
        writer.flushed().await;
        let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
        assert_eq!((read(&before).as_str(), read(&now).as_str()), ("one\ntwo\n", "three\n"));
        assert_eq!(writer.lines(), WriteCounts { written: 3, dropped: 0 });
    }

    #[test]
    fn a_write_that_stops_within_a_line_spoils_no_other_line() {
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
    async fn lines_are_dropped_and_counted_on_a_full_disk() {
        let writer = LineWriter::open(Path::new("/dev/full")).expect("a device");
        writer.write(b"lost\n".to_vec());
        writer.flushed().await;
        assert_eq!(writer.lines(), WriteCounts { written: 0, dropped: 1 });
    }

    #[test]
    fn a_hanging_disk_does_not_block_writers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        let reader = thread::spawn({
            let path = path.clone();
            move || File::open(path).expect("a reader")
        });
        let writer = LineWriter::open(&path).expect("a pipe");
        let _never_reads = reader.join().expect("a reader");
        let line = vec![b'x'; 1 << 20];
        (0..8).for_each(|_| writer.write(line.clone()));
        let WriteCounts { written, dropped } = writer.lines();
        assert_eq!(written, 0);
        assert!(dropped >= 4, "{dropped}");
    }
}
