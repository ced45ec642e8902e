//! Measures how long the machine delays fsyncs and threads, to explain slow calls.

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
/// A measurement above this is a delay.
const DELAY: Duration = Duration::from_millis(100);

/// A thread that measures the delays of the machine.
pub struct Probe {
    stop: Arc<AtomicBool>,
    running: JoinHandle<io::Result<Delays>>,
}

/// The measured delays.
#[derive(Clone, Debug, Default)]
pub struct Delays {
    /// The delays, as start and end, in order.
    held_up: Vec<(Instant, Instant)>,
    /// The longest write of a few bytes to a file, with its sync.
    pub sync: Duration,
    /// The longest time by which a thread woke up too late.
    pub wake_up: Duration,
}

impl Probe {
    /// Starts the measurement; writes to a file in this directory.
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
                delays.wake_up = delays.wake_up.max(delays.note(started + PAUSE));
                let started = Instant::now();
                file.write_all(&[0; 64])?;
                file.sync_data()?;
                delays.sync = delays.sync.max(delays.note(started));
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

impl Delays {
    /// Records the time since `started` if it was a delay, and returns it.
    fn note(&mut self, started: Instant) -> Duration {
        let now = Instant::now();
        let took = now.saturating_duration_since(started);
        if took >= DELAY {
            self.held_up.push((started, now));
        }
        took
    }

    /// How much of this period overlaps recorded delays.
    #[must_use]
    pub fn within(&self, started: Instant, took: Duration) -> Duration {
        let end = started + took;
        let overlap =
            |(from, to): &(Instant, Instant)| (*to).min(end).saturating_duration_since((*from).max(started));
        self.held_up.iter().map(overlap).sum()
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an fsync took up to {:?}, a wake-up up to {:?}", self.sync, self.wake_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_overlap_with_the_period_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let delays =
            Delays { held_up: vec![(at(0), at(2)), (at(3), at(4)), (at(9), at(10))], ..Delays::default() };
        assert_eq!(delays.within(at(1), Duration::from_secs(5)), Duration::from_secs(2));
        assert_eq!(delays.within(at(5), Duration::from_secs(3)), Duration::ZERO);
    }
}
