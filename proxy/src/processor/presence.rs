//! The broker's words to clients: which producers are here, and which stream brings them what the broker says.

use std::time::Duration;

use futures::future::join_all;

use super::Processor;
use super::placement::{Cluster, Origin};
use super::stream::Push;
use crate::service::{Delivery, Notice, Services, TopicConfig, TopicKind};

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
            _ = join_all(self.placement.all().map(|cluster| self.pass_notices(cluster))) => {}
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
                    join_all(self.placement.all().map(|cluster| cluster.services.presence.announce(&[]))).await;
                    return;
                }
            }
            let published =
                self.sessions.published(|origin, topic| self.placement.of(origin, topic).name.clone());
            // Side by side: one that is down makes no other wait.
            let announced = self.placement.all().map(async |cluster| {
                let topics = published.get(&cluster.name).into_iter().flatten();
                let topics = with_transactions(&cluster.services, topics).await;
                cluster.services.presence.announce(&topics).await;
            });
            join_all(announced).await;
        }
    }

    async fn pass_notices(&self, cluster: &Cluster) {
        loop {
            match cluster.services.presence.notice().await {
                Notice::Check(delivery) => self.ask_producer(cluster, delivery),
                Notice::LiteUnsubscribed { client_id, lite_topic } => {
                    if let Some(stream) = self.sessions.stream(&client_id) {
                        // One that reads nothing learns it from its next synchronisation.
                        let _ = stream.try_send(Push::LiteUnsubscribed(lite_topic));
                    }
                }
            }
        }
    }

    // Any producer that sends to the topic in this cluster may know; one of the same topic in another cluster would
    // say to roll back what it never sent. One that can't be told now is passed over. If none is left, the broker
    // asks again, maybe elsewhere.
    fn ask_producer(&self, cluster: &Cluster, delivery: Box<Delivery>) {
        let topic = delivery.topic.clone();
        let transaction_id = self.handles.seal_transaction(&topic, &cluster.name, &delivery.coordinates);
        self.recent.asked((&topic, &delivery.message.id), (&cluster.name, &delivery.coordinates));
        let mut push = Push::RecoverTransaction { delivery, transaction_id };
        let here = |origin: Origin<'_>| self.placement.of(origin, &topic).name == cluster.name;
        for stream in self.sessions.producers_of(&topic, here) {
            match stream.try_send(push) {
                Ok(()) => return,
                Err(unsaid) => push = unsaid,
            }
        }
        tracing::debug!(topic, "nobody here can be asked about a transaction");
    }
}

/// Those of the topics that take half messages.
async fn with_transactions(services: &Services, topics: impl Iterator<Item = &String>) -> Vec<String> {
    let configs = topics.map(async |topic| services.metadata.topic(topic).await);
    let configs = join_all(configs).await.into_iter().flatten();
    let takes = |config: &TopicConfig| matches!(config.kind, TopicKind::Transaction | TopicKind::Mixed);
    configs.filter(takes).map(|config| config.name).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::scripted;
    use super::super::{Limits, Placement, PlacementRule, Role};
    use super::*;
    use crate::service::Message;

    fn check(topic: &str) -> Box<Delivery> {
        Box::new(Delivery {
            message: Message::default(),
            topic: topic.to_owned(),
            queue_id: 0,
            queue_offset: 0,
            stored_at: SystemTime::UNIX_EPOCH,
            store_host: String::new(),
            attempt: 1,
            received_at: SystemTime::UNIX_EPOCH,
            invisible: Duration::ZERO,
            coordinates: "broker-a 1 2".to_owned(),
        })
    }

    /// Two clusters, of which the other one is for clients whose names begin with `pay-`.
    fn two_clusters() -> (Placement, [scripted::Questions; 2]) {
        let ([default, payments], questions): ([Services; 2], _) = scripted::backends();
        let rule = PlacementRule {
            client: Some("pay-*".to_owned()),
            cluster: "payments".to_owned(),
            ..PlacementRule::default()
        };
        let placement = Placement::only(default).with("payments".to_owned(), payments);
        (placement.by(vec![rule]).expect("a cluster"), questions)
    }

    #[tokio::test]
    async fn a_check_reaches_a_producer_of_its_own_cluster() {
        let (placement, _questions) = two_clusters();
        let processor = scripted::processor(placement, Limits::default());
        let mut producers = ["pay-1", "web-1"].map(|client_id| {
            scripted::connect(&processor, client_id, Role::Publishing(vec!["orders".to_owned()]))
        });
        for (cluster, asked) in [("payments", 0), ("", 1)] {
            let cluster = processor.placement.named(cluster).expect("a cluster");
            for _ in 0..20 {
                processor.ask_producer(cluster, check("orders"));
                assert!(producers[asked].try_recv().is_ok());
                assert!(producers[1 - asked].try_recv().is_err());
            }
        }
    }
}
