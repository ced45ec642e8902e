//! What the machine itself delays: a send waits for an fsync, and every call for a turn on a processor.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The pause between two measurements.
const PAUSE: Duration = Duration::from_millis(20);

/// Measures until it is stopped.
pub struct Probe {
    stop: Arc<AtomicBool>,
    running: JoinHandle<io::Result<Delays>>,
}

/// The longest delays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delays {
    /// Of writing a few bytes to a file and syncing it.
    pub sync: Duration,
    /// Of a thread whose pause is over.
    pub wake_up: Duration,
}

impl Probe {
    /// Begins to measure, with a file in this directory.
    ///
    /// # Errors
    /// If the file can't be created.
    pub fn start(directory: &Path) -> Result<Self> {
        let mut file = File::create(directory.join("probe"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let running = thread::spawn(move || {
            let mut delays = Delays::default();
            while !stopped.load(Ordering::Relaxed) {
                let started = Instant::now();
                thread::sleep(PAUSE);
                delays.wake_up = delays.wake_up.max(started.elapsed().saturating_sub(PAUSE));
                let started = Instant::now();
                file.write_all(&[0; 64])?;
                file.sync_data()?;
                delays.sync = delays.sync.max(started.elapsed());
            }
            Ok(delays)
        });
        Ok(Self { stop, running })
    }

    /// Ends the measurement.
    ///
    /// # Errors
    /// If the file could not be written.
    pub fn stop(self) -> Result<Delays> {
        self.stop.store(true, Ordering::Relaxed);
        let delays = self.running.join().ok().context("the probe panicked")?;
        Ok(delays?)
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an fsync took up to {:?}, a wake-up up to {:?}", self.sync, self.wake_up)
    }
}
