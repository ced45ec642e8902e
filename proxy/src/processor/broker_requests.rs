//! The broker's words to clients: which producers are here, and which stream brings them what the broker says.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::MissedTickBehavior;

use super::Processor;
use super::cluster_router::{Cluster, Origin};
use super::stream::Push;
use crate::service::{BrokerRequest, Delivery, Services, TopicConfig, TopicKind};

/// How often brokers are told who is here; they forget after two minutes.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(20);

impl Processor {
    /// Tells the broker which producers are here, and clients what the broker says, until the proxy drains.
    pub(super) async fn run_broker_requests(&self) {
        if !self.capabilities().transaction && !self.capabilities().lite {
            return;
        }
        // Each cluster by itself: while one is asked that does not answer, the others would forget who is here.
        let kept = self.clusters.all().map(async |cluster| {
            tokio::select! {
                () = self.announce_producers(cluster) => {}
                () = self.pass_notices(cluster) => {}
            }
        });
        join_all(kept).await;
    }

    async fn announce_producers(&self, cluster: &Cluster) {
        let mut changed = self.clients.producers_changed();
        let mut ticks = tokio::time::interval(ANNOUNCE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let here = |origin: Origin<'_>, topic: &str| self.clusters.route(origin, topic).name == cluster.name;
        let announcing = async {
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    // Never an error: the sessions live longer than this.
                    _ = changed.changed() => {}
                }
                let published = self.clients.published(here);
                let topics = with_transactions(&cluster.services, &published).await;
                cluster.services.broker_requests.announce_producers(&topics).await;
            }
        };
        let _: Option<()> = self.draining.run_until_cancelled(announcing).await;
        // So that brokers ask another proxy at once, and not one that is gone.
        cluster.services.broker_requests.announce_producers(&[]).await;
    }

    async fn pass_notices(&self, cluster: &Cluster) {
        loop {
            match cluster.services.broker_requests.next().await {
                BrokerRequest::Check(delivery) => self.ask_producer(cluster, delivery),
                BrokerRequest::LiteUnsubscribed { client_id, lite_topic } => {
                    if let Some(stream) = self.clients.stream(&client_id) {
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
        let here = |origin: Origin<'_>| self.clusters.route(origin, &topic).name == cluster.name;
        for stream in self.clients.producers_of(&topic, here) {
            match stream.try_send(push) {
                Ok(()) => return,
                Err(unsaid) => push = unsaid,
            }
        }
        tracing::debug!(topic, "nobody here can be asked about a transaction");
    }
}

/// Those of the topics that take half messages.
async fn with_transactions(services: &Services, topics: &BTreeSet<String>) -> Vec<String> {
    let configs = topics.iter().map(async |topic| services.metadata.topic(topic).await);
    let configs = join_all(configs).await.into_iter().flatten();
    let takes = |config: &TopicConfig| matches!(config.kind, TopicKind::Transaction | TopicKind::Mixed);
    configs.filter(takes).map(|config| config.name).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::scripted;
    use super::super::{ClusterRouter, Limits, PlacementRule, Role};
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
    fn two_clusters() -> (ClusterRouter, [scripted::Questions; 2]) {
        let ([default, payments], questions): ([Services; 2], _) = scripted::backends();
        let rule = PlacementRule {
            client: Some("pay-*".to_owned()),
            cluster: "payments".to_owned(),
            ..PlacementRule::default()
        };
        let clusters = ClusterRouter::single(default).add("payments".to_owned(), payments);
        (clusters.rules(vec![rule]).expect("a cluster"), questions)
    }

    #[tokio::test]
    async fn a_check_reaches_a_producer_of_its_own_cluster() {
        let (clusters, _questions) = two_clusters();
        let processor = scripted::processor(clusters, Limits::default());
        let mut producers = ["pay-1", "web-1"].map(|client_id| {
            scripted::connect(&processor, client_id, Role::Publishing(vec!["orders".to_owned()]))
        });
        for (cluster, asked) in [("payments", 0), ("", 1)] {
            let cluster = processor.clusters.get(cluster).expect("a cluster");
            for _ in 0..20 {
                processor.ask_producer(cluster, check("orders"));
                assert!(producers[asked].try_recv().is_ok());
                assert!(producers[1 - asked].try_recv().is_err());
            }
        }
    }

    #[tokio::test]
    async fn a_cluster_without_an_answer_keeps_no_other_from_hearing() {
        let (clusters, [mut silent, mut asked]) = two_clusters();
        let processor = scripted::processor(clusters, Limits::default());
        let publishing = |topic: &str| Role::Publishing(vec![topic.to_owned()]);
        let _first = scripted::connect(&processor, "pay-1", publishing("orders"));
        let house = tokio::spawn({
            let processor = processor.clone();
            async move { processor.run_broker_requests().await }
        });
        let (topics, _unanswered) = scripted::announcement(&mut silent).await;
        assert!(topics.is_empty());
        let (topics, heard) = scripted::announcement(&mut asked).await;
        assert_eq!(topics, ["orders"]);
        let _second = scripted::connect(&processor, "pay-2", publishing("bills"));
        heard.send(Ok(())).expect("an announcement");
        let (topics, _unanswered) = scripted::announcement(&mut asked).await;
        assert_eq!(topics, ["bills", "orders"]);

        processor.draining.cancel();
        for asked in [&mut silent, &mut asked] {
            let (topics, heard) = scripted::announcement(asked).await;
            assert!(topics.is_empty());
            heard.send(Ok(())).expect("a good-bye");
        }
        house.await.expect("the end");
    }
}
