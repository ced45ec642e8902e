//! The log of a test.

use std::io::Write;

use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;

/// The whole log, of all levels, including the log of HTTP/2.
#[derive(Clone, Default)]
pub(crate) struct Log(watch::Sender<Vec<u8>>);

impl Log {
    pub(crate) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync {
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
