//! A measured server and its workloads.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::load::{Load, Names};
use crate::process::Account;
use crate::table::{Spent, Table};

/// A measured server.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) account: Account,
    pub(crate) address: String,
    pub(crate) names: Names,
    /// Warm-up messages of each workload, before the measured ones.
    pub(crate) warm_up: usize,
    pub(crate) targets: Targets,
}

/// The targets for the figures of a server.
#[derive(Clone, Copy)]
pub(crate) struct Targets {
    pub(crate) serving: &'static str,
    pub(crate) memory_at_start: &'static str,
    pub(crate) memory_under_load: &'static str,
    pub(crate) send: &'static str,
    pub(crate) send_batch: &'static str,
    pub(crate) consume: &'static str,
    pub(crate) consume_batch: &'static str,
    pub(crate) latency: &'static str,
}

impl Targets {
    /// The same text for every target.
    pub(crate) const fn all(words: &'static str) -> Self {
        Self {
            serving: words,
            memory_at_start: words,
            memory_under_load: words,
            send: words,
            send_batch: words,
            consume: words,
            consume_batch: words,
            latency: words,
        }
    }
}

/// A load whose cost per message is measured.
#[derive(Clone, Copy)]
pub(crate) enum Workload {
    /// Sends with this many messages in a request, and this many requests at once.
    Send { per_request: usize, in_flight: usize },
    /// Receives and acknowledges up to this many messages at a time, by 16 consumers.
    Consume { batch: usize },
}

impl Workload {
    /// The sends, one by one and many in a request, with their names.
    pub(crate) const SENDS: [(&str, Self); 2] = [
        ("send, 64 in flight", Self::Send { per_request: 1, in_flight: 64 }),
        ("send, 32 in a request", Self::Send { per_request: 32, in_flight: 8 }),
    ];
    /// What consumes their messages.
    pub(crate) const CONSUMES: [(&str, Self); 2] = [
        ("receive + ack one by one", Self::Consume { batch: 1 }),
        ("receive + ack, 32 in one", Self::Consume { batch: 32 }),
    ];

    /// Puts `messages` through `load`.
    pub(crate) async fn run(self, load: &Load, messages: usize) -> Result<(), Failure> {
        match self {
            Self::Send { per_request, in_flight } => load.send(messages, per_request, in_flight).await,
            Self::Consume { batch } => load.consume(messages, batch, 16).await,
        }
    }
}

impl Subject {
    /// Prints the start time and the memory after the start.
    pub(crate) fn started(&self, table: &Table, after: Duration) -> Result<(), Failure> {
        let serving = format!("{} ms", after.as_millis());
        table.row(&format!("{}: serving after", self.name), serving, self.targets.serving);
        let what = format!("{}: resident at start", self.name);
        table.memory(&what, self.account.resident_mib()?, self.targets.memory_at_start);
        Ok(())
    }

    /// Runs all workloads.
    pub(crate) async fn run(&self, table: &Table, messages: usize) -> Result<(), Failure> {
        self.sends(table, messages).await?;
        self.consumes(table, messages).await?;
        self.latency(table).await?;
        let what = format!("{}: resident under load, at most", self.name);
        table.memory(&what, self.account.highest_resident_mib()?, self.targets.memory_under_load);
        Ok(())
    }

    /// Sends one by one and in requests of 32.
    pub(crate) async fn sends(&self, table: &Table, messages: usize) -> Result<(), Failure> {
        let load = self.connect().await?;
        let targets = [self.targets.send, self.targets.send_batch];
        for ((label, workload), target) in Workload::SENDS.into_iter().zip(targets) {
            workload.run(&load, self.warm_up).await?;
            let spent = self.spent(messages, workload.run(&load, messages)).await?;
            table.work(&format!("{}: {label}", self.name), &spent, target);
        }
        Ok(())
    }

    /// What sends cost at 64 in flight.
    pub(crate) async fn echo(&self, messages: usize) -> Result<Spent, Failure> {
        let load = self.connect().await?;
        load.send(messages / 10, 1, 64).await?;
        self.spent(messages, load.send(messages, 1, 64)).await
    }

    /// Receives and acknowledges the messages of the sends, first one by one, then 32 at a time.
    async fn consumes(&self, table: &Table, messages: usize) -> Result<(), Failure> {
        let load = self.connect().await?;
        let _registered = load.register().await?;
        let targets = [self.targets.consume, self.targets.consume_batch];
        for ((label, workload), target) in Workload::CONSUMES.into_iter().zip(targets) {
            workload.run(&load, self.warm_up).await?;
            // A few messages are left, so that no consumer waits for the last ones.
            let messages = messages * 9 / 10;
            let spent = self.spent(messages, workload.run(&load, messages)).await?;
            table.work(&format!("{}: {label}", self.name), &spent, target);
        }
        Ok(())
    }

    /// Sends at a fixed rate, for the latency's 50th and 99th percentile.
    async fn latency(&self, table: &Table) -> Result<(), Failure> {
        let load = self.connect().await?;
        load.send_at(1000, Duration::from_secs(1)).await?;
        let mut times = load.send_at(1000, Duration::from_secs(5)).await?;
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let what = format!("{}: 1000 sends a second, p50 / p99", self.name);
        table.row(&what, format!("{:.2} / {:.2} ms", at(0.5), at(0.99)), self.targets.latency);
        Ok(())
    }

    pub(crate) async fn connect(&self) -> Result<Load, Failure> {
        Load::connect(&self.address, &self.names).await
    }

    /// Runs a workload and reads the server's usage for it.
    pub(crate) async fn spent(
        &self,
        messages: usize,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<Spent, Failure> {
        let (before, begin) = (self.account.cpu()?, Instant::now());
        work.await?;
        Ok(Spent { cpu: self.account.cpu()? - before, wall: begin.elapsed(), messages })
    }
}
