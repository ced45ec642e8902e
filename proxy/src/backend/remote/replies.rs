//! Replies between classic clients that are connected to different proxies (Apache's `ReplyMessageProcessor`): a broker that
//! knows the waiting client by the heartbeats of its proxy passes the reply on to that proxy.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::cluster::Cluster;
use super::connection::Answerer;
use crate::remoting::{Command, properties, request, response};
use crate::service::names::properties as names;
use crate::service::{BrokerRequest, Reply, ServiceError, ServiceErrorKind};

/// The pause before brokers are asked again that do not know the waiting client: its proxy may be just telling them. It doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// Sends a reply to a broker that knows the waiting client.
pub(super) async fn send(cluster: &Cluster, reply: &Reply, deadline: Instant) -> Result<(), ServiceError> {
    let (command, mut pause) = (command(reply), PAUSE);
    loop {
        let mut refused = None;
        for address in cluster.masters().await? {
            let left = cluster.time_left(deadline);
            match cluster.peers.call(&address, command.clone(), left).await {
                Ok(answer) if answer.code == response::SUCCESS => return Ok(()),
                Ok(answer) => {
                    let text = answer.remark.unwrap_or_default();
                    refused.get_or_insert(ServiceError::new(ServiceErrorKind::Rejected, text));
                }
                Err(error) => drop(refused.get_or_insert(error.into())),
            }
        }
        if let Some(refused) = refused.filter(|_| Instant::now() + pause >= deadline) {
            return Err(refused);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

fn command(reply: &Reply) -> Command {
    Command::request(request::SEND_REPLY_MESSAGE)
        .field("producerGroup", &reply.producer_group)
        .field("topic", &reply.topic)
        .field("defaultTopic", "TBW102")
        .field("defaultTopicQueueNums", 4)
        // A broker has at least one.
        .field("queueId", 0)
        .field("sysFlag", reply.system_flags)
        .field("bornTimestamp", reply.born_at)
        .field("flag", reply.flag)
        .field("properties", &reply.properties)
        .field("reconsumeTimes", 0)
        .field("unitMode", false)
        .field("batch", false)
        .body(reply.body.clone())
}

/// A reply that a broker passes on. It waits for an answer.
pub(super) fn received(command: &Command, answerer: Answerer) -> Option<BrokerRequest> {
    let reply = read(command);
    let (taken, is_taken) = oneshot::channel();
    if reply.is_some() {
        tokio::spawn(async move {
            let code = match is_taken.await {
                Ok(true) => response::SUCCESS,
                _ => response::SYSTEM_ERROR,
            };
            answerer.answer(Command::response(code));
        });
    } else {
        answerer.answer(Command::response(response::SYSTEM_ERROR));
    }
    reply.map(|reply| BrokerRequest::Reply { reply: Box::new(reply), taken })
}

fn read(command: &Command) -> Option<Reply> {
    let properties = command.text("properties")?;
    let to = properties::decode(properties).find(|(key, _)| *key == names::REPLY_TO_CLIENT)?.1;
    Some(Reply {
        to: to.to_owned(),
        producer_group: command.text("producerGroup")?.to_owned(),
        topic: command.text("topic")?.to_owned(),
        queue_id: command.number("queueId").unwrap_or_default(),
        system_flags: command.number("sysFlag").unwrap_or_default(),
        flag: command.number("flag").unwrap_or_default(),
        born_at: command.number("bornTimestamp").unwrap_or_default(),
        born_host: command.text("bornHost").unwrap_or_default().to_owned(),
        properties: properties.to_owned(),
        body: command.body.clone(),
    })
}
