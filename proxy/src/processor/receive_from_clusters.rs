//! Receives messages of a topic that placement rules divide among clusters.

use std::time::{Duration, Instant};

use super::cluster_router::Cluster;
use super::environment::Environment;
use super::group;
use super::receive::wait_for;
use crate::error::Error;
use crate::service::{Delivered, GroupConfig, Receive};

/// How long a receive waits at one cluster before it asks the next one.
const TURN: Duration = Duration::from_secs(1);

/// Waits for messages of several clusters, in turns. Clusters that fail are skipped, unless all fail.
pub(super) async fn wait_for_any<'a>(
    environment: &Environment,
    own: (&'a Cluster, GroupConfig),
    others: Vec<&'a Cluster>,
    request: Receive,
) -> Result<(&'a Cluster, GroupConfig, Delivered), Error> {
    let mut sources = vec![own];
    for cluster in others {
        match group::load_for_consuming(&cluster.services, &request.group).await {
            Ok(group) => sources.push((cluster, group)),
            Err(error) => {
                tracing::debug!(cluster = &*cluster.name, group = request.group, %error, "the group can't receive from a cluster");
            }
        }
    }
    // Not always the same, because the first one is preferred while it has messages.
    let first = rand::random_range(0..sources.len());
    sources.rotate_left(first);
    // The first round only looks for messages that are there.
    let mut turn = Duration::ZERO;
    loop {
        let start = Instant::now();
        let (mut failure, mut answered) = (None, false);
        for (index, (cluster, group)) in sources.iter().enumerate() {
            let deadline = request.deadline.min(Instant::now() + turn);
            let receive = Receive { fifo: group.fifo, deadline, ..request.clone() };
            match wait_for(environment, &cluster.services, receive).await {
                Ok(Delivered::Nothing) => answered = true,
                Ok(received) => {
                    let (cluster, group) = sources.swap_remove(index);
                    return Ok((cluster, group, received));
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure.filter(|_| !answered) {
            return Err(error);
        }
        // A broker that has too many waiting receives answers at once. The client asks it again, at its own pace.
        let is_early = start.elapsed() < turn / 2;
        if is_early || Instant::now() >= request.deadline || environment.draining.is_cancelled() {
            let (cluster, group) = sources.swap_remove(0);
            return Ok((cluster, group, Delivered::Nothing));
        }
        turn = TURN;
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster_router::{ClientOrigin, ClusterRouter};
    use super::super::limits::Limits;
    use super::super::scripted;
    use super::*;
    use crate::service::Filter;

    #[tokio::test]
    async fn a_broker_that_does_not_wait_is_not_asked_again_and_again() {
        let ([services], _calls) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        let environment = &processor.environment;
        let request = Receive {
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            broker: None,
            filter: Filter::All,
            max: 1,
            invisible: Duration::from_secs(60),
            deadline: Instant::now() + Duration::from_secs(3600),
            fifo: false,
            attempt_id: None,
            lite_client: None,
        };
        let own = (environment.clusters.route(ClientOrigin::default(), "topic"), GroupConfig::named("group"));
        let received = wait_for_any(environment, own, Vec::new(), request).await.expect("an answer");
        assert!(matches!(received.2, Delivered::Nothing));
    }
}
