//! What brokers ask of clients: which producers are here, and which stream leads to them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::MissedTickBehavior;

use super::cluster_router::{Cluster, Origin};
use super::environment::Environment;
use super::handle::TransactionPlace;
use super::stream::Push;
use crate::service::{BrokerRequest, CheckOutcome, Delivery, Services, TopicConfig, TopicKind};

/// How often brokers are told which producers are here; they forget after two minutes.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(20);

/// Tells brokers which producers are here, and passes their requests on to clients, until the proxy drains.
pub(super) async fn run(environment: &Environment) {
    let capabilities = environment.capabilities();
    if !capabilities.transaction && !capabilities.lite {
        return;
    }
    // Each cluster on its own: while one does not answer, the others would forget who is here.
    let running = environment.clusters.all().map(async |cluster| {
        tokio::select! {
            () = announce_producers(environment, cluster) => {}
            () = pass_on(environment, cluster) => {}
        }
    });
    join_all(running).await;
}

async fn announce_producers(environment: &Environment, cluster: &Cluster) {
    let mut changed = environment.clients.producers_changed();
    let mut ticks = tokio::time::interval(ANNOUNCE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let here =
        |origin: Origin<'_>, topic: &str| environment.clusters.route(origin, topic).name == cluster.name;
    let announcing = async {
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // Never fails: the table of clients outlives this loop.
                _ = changed.changed() => {}
            }
            let mut published = environment.clients.published(here);
            if environment.clients.has_producer_groups() {
                // These producers don't say what they send to.
                let topics = cluster.services.metadata.topics().await.unwrap_or_default();
                published.extend(topics.into_iter().filter(takes_half_messages).map(|topic| topic.name));
            }
            let topics = with_transactions(&cluster.services, &published).await;
            cluster.services.broker_requests.announce_producers(&topics).await;
            // A reply does not tell from which cluster its request came.
            let requesters = Vec::from_iter(environment.clients.awaiting_replies());
            cluster.services.broker_requests.announce_requesters(&requesters).await;
        }
    };
    let _: Option<()> = environment.draining.run_until_cancelled(announcing).await;
    // Brokers ask another proxy from now on, instead of one that is gone.
    cluster.services.broker_requests.announce_producers(&[]).await;
    cluster.services.broker_requests.announce_requesters(&[]).await;
}

async fn pass_on(environment: &Environment, cluster: &Cluster) {
    loop {
        match cluster.services.broker_requests.next().await {
            BrokerRequest::Check(delivery) => {
                let coordinates = delivery.coordinates.clone();
                let outcome = ask_producer(environment, cluster, delivery);
                cluster.services.broker_requests.checked(&coordinates, outcome).await;
            }
            BrokerRequest::Reply { reply, taken } => {
                let streams = environment.clients.awaiting_replies_as(&reply.to);
                let (mut push, mut is_taken) = (Push::Reply(reply), false);
                for stream in streams {
                    match stream.try_send(push) {
                        Ok(()) => {
                            is_taken = true;
                            break;
                        }
                        Err(unsent) => push = unsent,
                    }
                }
                // Fails if the broker does not wait any more.
                let _ = taken.send(is_taken);
            }
            BrokerRequest::LiteUnsubscribed { client_id, lite_topic } => {
                for stream in environment.clients.streams_of(&client_id) {
                    // A client that reads too slowly learns it from its next synchronisation.
                    let _ = stream.try_send(Push::LiteUnsubscribed(lite_topic.clone()));
                }
            }
        }
    }
}

// Any producer that sends to the topic in this cluster may know the answer; one of the same topic in another cluster
// would roll back what it never sent. A classic producer is asked about the half messages of its own group only. A producer that reads too slowly is skipped. If none is left, the broker
// asks again, maybe another proxy.
fn ask_producer(environment: &Environment, cluster: &Cluster, delivery: Box<Delivery>) -> CheckOutcome {
    let topic = delivery.topic.clone();
    let place = TransactionPlace {
        cluster: cluster.name.as_ref().to_owned(),
        coordinates: delivery.coordinates.clone(),
    };
    let transaction_id = environment.handles.seal_transaction(&topic, &place);
    environment.transactions.checked(&topic, &delivery.message.id, place);
    let group = delivery.message.producer_group().map(str::to_owned);
    let mut push = Push::RecoverTransaction { delivery, transaction_id };
    let here = |origin: Origin<'_>| environment.clusters.route(origin, &topic).name == cluster.name;
    for stream in environment.clients.producers_of(&topic, group.as_deref(), here) {
        match stream.try_send(push) {
            Ok(()) => return CheckOutcome::Asked,
            Err(unsent) => push = unsent,
        }
    }
    tracing::debug!(topic, "no producer here can be asked about a transaction");
    CheckOutcome::NobodyAsked
}

/// The topics that take half messages, of these.
async fn with_transactions(services: &Services, topics: &BTreeSet<String>) -> Vec<String> {
    let configs = topics.iter().map(async |topic| services.metadata.existing_topic(topic).await);
    let configs = join_all(configs).await.into_iter().flatten();
    configs.filter(takes_half_messages).map(|config| config.name).collect()
}

fn takes_half_messages(config: &TopicConfig) -> bool {
    matches!(config.kind, TopicKind::Transaction | TopicKind::Mixed | TopicKind::Undeclared)
}

#[cfg(test)]
mod tests {
    use super::super::scripted;
    use super::super::{ClusterRouter, Limits, PlacementRule};
    use super::*;

    /// Two clusters, of which the other one is for clients whose names begin with `pay-`.
    fn two_clusters() -> (ClusterRouter, [scripted::Questions; 2]) {
        let ([default, payments], questions): ([Services; 2], _) = scripted::backends();
        let rule = PlacementRule {
            client: Some("pay-*".to_owned()),
            cluster: "payments".to_owned(),
            ..PlacementRule::default()
        };
        let clusters = ClusterRouter::single(default).add("payments".to_owned(), payments);
        (clusters.rules(vec![rule]), questions)
    }

    #[tokio::test]
    async fn a_check_reaches_a_producer_of_its_own_cluster() {
        let (clusters, _questions) = two_clusters();
        let processor = scripted::processor(clusters, Limits::default());
        let mut producers =
            ["pay-1", "web-1"].map(|client_id| scripted::connect(&processor, client_id, &["orders"]));
        for (cluster, asked) in [("payments", 0), ("", 1)] {
            let environment = &processor.environment;
            let cluster = environment.clusters.get(cluster).expect("a cluster");
            for _ in 0..20 {
                ask_producer(environment, cluster, Box::new(scripted::delivery("orders")));
                assert!(producers[asked].try_recv().is_some());
                assert!(producers[1 - asked].try_recv().is_none());
            }
        }
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_answer_delays_no_other() {
        let (clusters, [mut silent, mut asked]) = two_clusters();
        let processor = scripted::processor(clusters, Limits::default());
        let _first = scripted::connect(&processor, "pay-1", &["orders"]);
        let running = tokio::spawn({
            let processor = processor.clone();
            async move { run(&processor.environment).await }
        });
        let (topics, _unanswered) = scripted::announcement(&mut silent).await;
        assert!(topics.is_empty());
        let (topics, heard) = scripted::announcement(&mut asked).await;
        assert_eq!(topics, ["orders"]);
        let _second = scripted::connect(&processor, "pay-2", &["bills"]);
        heard.send(Ok(())).expect("an announcement");
        let (topics, _unanswered) = scripted::announcement(&mut asked).await;
        assert_eq!(topics, ["bills", "orders"]);

        processor.draining().cancel();
        for asked in [&mut silent, &mut asked] {
            let (topics, heard) = scripted::announcement(asked).await;
            assert!(topics.is_empty());
            heard.send(Ok(())).expect("a last announcement");
        }
        running.await.expect("the end");
    }
}
