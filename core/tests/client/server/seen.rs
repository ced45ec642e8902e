//! The requests that a scripted server has received.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rocketmq_thin_proto::v2::{self, Code, telemetry_command::Command};
use tokio::sync::{broadcast, watch};
use tonic::metadata::MetadataMap;

use super::status;

/// The requests so far, and the commands of tests to the server.
#[derive(Default)]
pub(crate) struct Seen {
    counts: watch::Sender<HashMap<&'static str, usize>>,
    pub(crate) sent: Mutex<Vec<v2::SendMessageRequest>>,
    pub(crate) received: Mutex<Vec<v2::ReceiveMessageRequest>>,
    pub(crate) acked: Mutex<Vec<v2::AckMessageRequest>>,
    pub(crate) changed: Mutex<Vec<v2::ChangeInvisibleDurationRequest>>,
    pub(crate) forwarded: Mutex<Vec<v2::ForwardMessageToDeadLetterQueueRequest>>,
    pub(crate) synced: Mutex<Vec<v2::SyncLiteSubscriptionRequest>>,
    pub(crate) settings: Mutex<Vec<v2::Settings>>,
    pub(crate) metadata: Mutex<HashMap<&'static str, MetadataMap>>,
    pub(crate) ended: Mutex<Vec<v2::EndTransactionRequest>>,
    pub(crate) recalled: Mutex<Vec<v2::RecallMessageRequest>>,
    pub(super) drop_streams: watch::Sender<usize>,
    /// The commands that the server sends over its telemetry streams.
    pub(super) commands: Commands,
    pub(super) forgotten: AtomicBool,
    /// The new address of the broker in routes.
    pub(super) moved: Mutex<Option<SocketAddr>>,
    /// How many brokers were added to routes.
    pub(super) added_brokers: AtomicUsize,
    /// How many of the next sends get no response.
    pub(super) held: AtomicUsize,
}

impl Seen {
    /// Increments the count of `what`. Returns the previous count.
    pub(super) fn count(&self, what: &'static str) -> usize {
        let mut before = 0;
        self.counts.send_modify(|counts| {
            let count = counts.entry(what).or_default();
            before = *count;
            *count += 1;
        });
        before
    }

    pub(crate) fn counted(&self, what: &'static str) -> usize {
        self.counts.borrow().get(what).copied().unwrap_or_default()
    }

    /// Waits until something has happened `count` times.
    pub(crate) async fn wait(&self, what: &'static str, count: usize) {
        let mut counts = self.counts.subscribe();
        counts.wait_for(|counts| counts.get(what).is_some_and(|it| *it >= count)).await.unwrap();
    }

    /// Ends all telemetry streams.
    pub(crate) fn drop_streams(&self) {
        self.drop_streams.send_modify(|times| *times += 1);
    }

    /// Sends a command over all telemetry streams that are open.
    pub(crate) fn push(&self, command: Command) {
        let command = v2::TelemetryCommand { status: status(Code::Ok, "OK"), command: Some(command) };
        self.commands.0.send(command).unwrap();
    }

    /// Forgets all settings, until they are sent again.
    pub(crate) fn forget(&self) {
        self.forgotten.store(true, Ordering::SeqCst);
    }
}

/// Sends commands to all telemetry streams.
pub(super) struct Commands(pub(super) broadcast::Sender<v2::TelemetryCommand>);

impl Default for Commands {
    fn default() -> Self {
        Self(broadcast::Sender::new(64))
    }
}
