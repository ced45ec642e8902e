//! Announces clients to brokers, and passes the brokers' requests to these clients.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::MissedTickBehavior;

use super::cluster_router::{ClientOrigin, Cluster};
use super::environment::Environment;
use super::handle::TransactionRef;
use super::stream::Push;
use crate::service::{BrokerRequest, CheckOutcome, Delivery, Services, TopicConfig, TopicKind};

/// The interval of announcements. Brokers forget an announcement after two minutes.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(20);
/// The pause after an announcement, as a multiple of the time that collecting its topics took, and the longest one. Clients
/// may have many topics, and change them as often as they like.
const PAUSE_FACTOR: u32 = 4;
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Announces producers and waiting requesters to brokers, and passes the brokers' requests to clients, until the proxy
/// drains.
pub(super) async fn run(environment: &Environment) {
    let capabilities = environment.capabilities();
    if !capabilities.transaction && !capabilities.lite {
        return;
    }
    // The clusters are independent of each other, so that a cluster that does not answer does not delay announcements to
    // the others.
    let running = environment.clusters.all().map(async |cluster| {
        tokio::select! {
            () = announce_clients(environment, cluster) => {}
            () = pass_requests(environment, cluster) => {}
        }
    });
    join_all(running).await;
}

async fn announce_clients(environment: &Environment, cluster: &Cluster) {
    let mut changed = environment.clients.producers_changed();
    let mut ticks = tokio::time::interval(ANNOUNCE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let in_cluster = |origin: ClientOrigin<'_>, topic: &str| {
        environment.clusters.route(origin, topic).name == cluster.name
    };
    let announcing = async {
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // Never fails, because the table of clients outlives this loop.
                _ = changed.changed() => {}
            }
            let start = Instant::now();
            let mut published = environment.clients.published_topics(in_cluster).await;
            let pause = (start.elapsed() * PAUSE_FACTOR).min(MAX_PAUSE);
            if environment.clients.has_producer_groups() {
                // Classic producers don't name the topics that they send to.
                let topics = cluster.services.metadata.topics().await.unwrap_or_default();
                published.extend(topics.into_iter().filter(takes_half_messages).map(|topic| topic.name));
            }
            let topics = with_transactions(&cluster.services, &published).await;
            cluster.services.broker_requests.announce_producers(&topics).await;
            // Every cluster gets all requesters, because a reply does not contain the cluster of its request.
            let requesters = Vec::from_iter(environment.clients.awaiting_replies());
            cluster.services.broker_requests.announce_requesters(&requesters).await;
            tokio::time::sleep(pause).await;
        }
    };
    let _: Option<()> = environment.draining.run_until_cancelled(announcing).await;
    // From now on, brokers send their requests to other proxies.
    cluster.services.broker_requests.announce_producers(&[]).await;
    cluster.services.broker_requests.announce_requesters(&[]).await;
}

async fn pass_requests(environment: &Environment, cluster: &Cluster) {
    loop {
        match cluster.services.broker_requests.next().await {
            BrokerRequest::Check(delivery) => {
                let coordinates = delivery.coordinates.clone();
                let outcome = ask_producer(environment, cluster, delivery);
                cluster.services.broker_requests.checked(&coordinates, outcome).await;
            }
            BrokerRequest::Reply { reply, accepted } => {
                let streams = environment.clients.requester_streams(&reply.to);
                let (mut push, mut is_accepted) = (Push::Reply(reply), false);
                for stream in streams {
                    match stream.try_send(push) {
                        Ok(()) => {
                            is_accepted = true;
                            break;
                        }
                        Err(unsent) => push = unsent,
                    }
                }
                // Fails if the broker has stopped waiting.
                let _ = accepted.send(is_accepted);
            }
            BrokerRequest::LiteUnsubscribed { client_id, lite_topic } => {
                for stream in environment.clients.streams_of(&client_id) {
                    // Fails if the client reads too slowly. Its next synchronisation shows it the change.
                    let _ = stream.try_send(Push::LiteUnsubscribed(lite_topic.clone()));
                }
            }
        }
    }
}

/// Sends a transaction check to a producer. Any producer of the topic in this cluster can answer it. A producer of the same
/// topic in another cluster would roll back a transaction that it does not know. A classic producer only gets checks of its
/// own group. Producers that read too slowly are skipped. If none is left, the broker sends the check again later, possibly
/// to another proxy.
fn ask_producer(environment: &Environment, cluster: &Cluster, delivery: Box<Delivery>) -> CheckOutcome {
    let topic = delivery.topic.clone();
    let transaction = TransactionRef {
        cluster: cluster.name.as_ref().to_owned(),
        coordinates: delivery.coordinates.clone(),
    };
    let transaction_id = environment.handle_sealer.seal_transaction(&topic, &transaction);
    environment.transactions.record_check(&topic, &delivery.message.id, transaction);
    let group = delivery.message.producer_group().map(str::to_owned);
    let mut push = Push::RecoverTransaction { delivery, transaction_id };
    let in_cluster =
        |origin: ClientOrigin<'_>| environment.clusters.route(origin, &topic).name == cluster.name;
    for stream in environment.clients.producers_of(&topic, group.as_deref(), in_cluster) {
        match stream.try_send(push) {
            Ok(()) => return CheckOutcome::Sent,
            Err(unsent) => push = unsent,
        }
    }
    tracing::debug!(topic, "no connected producer could be asked about a transaction");
    CheckOutcome::NotSent
}

/// Filters topics: returns those that accept half messages.
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

    /// The default cluster, and a cluster for clients whose ids begin with `pay-`.
    fn two_clusters() -> (ClusterRouter, [scripted::BackendCalls; 2]) {
        let ([default, payments], calls): ([Services; 2], _) = scripted::backends();
        let rule = PlacementRule {
            client: Some("pay-*".to_owned()),
            cluster: "payments".to_owned(),
            ..PlacementRule::default()
        };
        let clusters = ClusterRouter::single(default).add("payments".to_owned(), payments);
        (clusters.rules(vec![rule]), calls)
    }

    #[tokio::test]
    async fn a_check_reaches_a_producer_of_its_own_cluster() {
        let (clusters, _calls) = two_clusters();
        let processor = scripted::processor(clusters, Limits::default());
        let mut producers =
            ["pay-1", "web-1"].map(|client_id| scripted::connect(&processor, client_id, &["orders"]));
        for (cluster, index) in [("payments", 0), ("", 1)] {
            let environment = &processor.environment;
            let cluster = environment.clusters.get(cluster).expect("a cluster");
            for _ in 0..20 {
                ask_producer(environment, cluster, Box::new(scripted::delivery("orders")));
                assert!(producers[index].try_recv().is_some());
                assert!(producers[1 - index].try_recv().is_none());
            }
        }
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_answer_delays_no_other() {
        let (clusters, [mut silent, mut answering]) = two_clusters();
        let processor = scripted::processor(clusters, Limits::default());
        let _first = scripted::connect(&processor, "pay-1", &["orders"]);
        let running = tokio::spawn({
            let processor = processor.clone();
            async move { run(&processor.environment).await }
        });
        let (topics, _unanswered) = scripted::announcement(&mut silent).await;
        assert!(topics.is_empty());
        let (topics, answer) = scripted::announcement(&mut answering).await;
        assert_eq!(topics, ["orders"]);
        let _second = scripted::connect(&processor, "pay-2", &["bills"]);
        answer.send(Ok(())).expect("an announcement");
        let (topics, _unanswered) = scripted::announcement(&mut answering).await;
        assert_eq!(topics, ["bills", "orders"]);

        processor.draining().cancel();
        for calls in [&mut silent, &mut answering] {
            let (topics, answer) = scripted::announcement(calls).await;
            assert!(topics.is_empty());
            answer.send(Ok(())).expect("a last announcement");
        }
        running.await.expect("the end");
    }
}
