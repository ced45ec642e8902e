//! The broker's words to clients: which producers are here, and which stream brings them what the broker says.

use std::time::Duration;

use super::Processor;
use super::stream::Push;
use crate::service::{Delivery, Notice, TopicKind};

/// How often brokers are told who is here; they forget after two minutes.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(20);

impl Processor {
    /// Tells the broker which producers are here, and clients what the broker says, until the proxy drains.
    pub(super) async fn keep_presence(&self) {
        if !self.capabilities().transaction && !self.capabilities().lite {
            return;
        }
        tokio::select! {
            () = self.announce_producers() => {}
            () = self.pass_notices() => {}
        }
    }

    async fn announce_producers(&self) {
        let mut ticks = tokio::time::interval(ANNOUNCE_EVERY);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.sessions.producers_changed() => {}
                () = self.draining.cancelled() => {
                    // So that brokers ask another proxy at once, and not one that is gone.
                    self.services.presence.announce(&[]).await;
                    return;
                }
            }
            let topics = self.sessions.published();
            let kinds = topics.iter().map(|topic| self.services.metadata.topic(topic));
            let kinds = futures::future::join_all(kinds).await;
            let with_transactions = topics.into_iter().zip(kinds).filter(|(_, config)| {
                config
                    .as_ref()
                    .is_ok_and(|config| matches!(config.kind, TopicKind::Transaction | TopicKind::Mixed))
            });
            let topics: Vec<_> = with_transactions.map(|(topic, _)| topic).collect();
            self.services.presence.announce(&topics).await;
        }
    }

    async fn pass_notices(&self) {
        loop {
            match self.services.presence.notice().await {
                Notice::Check(delivery) => self.ask_producer(delivery),
                Notice::LiteUnsubscribed { client_id, lite_topic } => {
                    if let Some(stream) = self.sessions.stream(&client_id) {
                        // One that reads nothing learns it from its next synchronisation.
                        let _ = stream.try_send(Push::LiteUnsubscribed(lite_topic));
                    }
                }
            }
        }
    }

    // Any producer of the topic may know; one that can't be told now is passed over. If none is left, the broker
    // asks again, maybe elsewhere.
    fn ask_producer(&self, delivery: Box<Delivery>) {
        let topic = delivery.topic.clone();
        let transaction_id = self.handles.seal_transaction(&topic, &delivery.coordinates);
        let mut push = Push::RecoverTransaction { delivery, transaction_id };
        for stream in self.sessions.producers_of(&topic) {
            match stream.try_send(push) {
                Ok(()) => return,
                Err(unsaid) => push = unsaid,
            }
        }
        tracing::debug!(topic, "nobody here can be asked about a transaction");
    }
}
