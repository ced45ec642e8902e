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
        if Instant::now() >= request.deadline || environment.draining.is_cancelled() {
            let (cluster, group) = sources.swap_remove(0);
            return Ok((cluster, group, Delivered::Nothing));
        }
        turn = TURN;
    }
}
