//! The log of a test.

use std::{io::Write, sync::Once};

use tokio::sync::watch;
use tracing::subscriber::{NoSubscriber, set_global_default};
use tracing_subscriber::fmt::MakeWriter;

/// The whole log, of all levels, including the log of HTTP/2.
#[derive(Clone, Default)]
pub(crate) struct Log(watch::Sender<Vec<u8>>);

impl Log {
    pub(crate) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync {
        static ANOTHER: Once = Once::new();
        // As long as there is a single subscriber, `tracing` asks only the thread that reaches an event first whether
        // the event is wanted. Without a subscriber in that thread, no other thread would log the event either.
        ANOTHER.call_once(|| drop(set_global_default(NoSubscriber::new())));
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(self.clone()).finish()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        self.text().matches(text).count()
    }

    /// Waits until the log contains a text this many times.
    pub(crate) async fn wait(&self, text: &str, count: usize) {
        let mut changes = self.0.subscribe();
        while self.count(text) < count {
            changes.changed().await.unwrap();
        }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send_modify(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn an_event_that_another_thread_has_reached_first_is_logged() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let event = || tracing::warn!("an event of two threads");
    std::thread::scope(|scope| scope.spawn(event).join()).unwrap();
    event();
    assert_eq!(log.count("an event of two threads"), 1);
}
