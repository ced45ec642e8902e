//! Passes replies between classic clients that are connected to different proxies (Apache's `ReplyMessageProcessor`). The
//! waiting client's proxy has registered it at the brokers, and a broker forwards the reply to that proxy.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::cluster::Cluster;
use super::responder::Responder;
use crate::remoting::{RemotingCommand, properties, request, response};
use crate::service::names::properties as names;
use crate::service::{BrokerRequest, Reply, ServiceError, ServiceErrorKind};

/// The delay before the first retry if no broker knows the waiting client: its proxy may be about to register it. The
/// delay doubles with each retry.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Sends a reply to the masters one after the other, until one accepts it because it knows the waiting client. Retries
/// until the deadline.
pub(super) async fn send(cluster: &Cluster, reply: &Reply, deadline: Instant) -> Result<(), ServiceError> {
    let (command, mut delay) = (command(reply), FIRST_RETRY_DELAY);
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
        if let Some(refused) = refused.filter(|_| Instant::now() + delay >= deadline) {
            return Err(refused);
        }
        tokio::time::sleep(delay).await;
        delay *= 2;
    }
}

fn command(reply: &Reply) -> RemotingCommand {
    RemotingCommand::request(request::SEND_REPLY_MESSAGE)
        .field("producerGroup", &reply.producer_group)
        .field("topic", &reply.topic)
        .field("defaultTopic", "TBW102")
        .field("defaultTopicQueueNums", 4)
        // Any queue will do, and every broker has queue 0.
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

/// Decodes a reply that a broker forwards, and answers the broker once the reply was passed on or refused. Returns `None`
/// if the reply is unreadable.
pub(super) fn receive(command: &RemotingCommand, responder: Responder) -> Option<BrokerRequest> {
    let reply = read(command);
    let (accepted, is_accepted) = oneshot::channel();
    if reply.is_some() {
        tokio::spawn(async move {
            let code = match is_accepted.await {
                Ok(true) => response::SUCCESS,
                _ => response::SYSTEM_ERROR,
            };
            responder.answer(RemotingCommand::response(code));
        });
    } else {
        responder.answer(RemotingCommand::response(response::SYSTEM_ERROR));
    }
    reply.map(|reply| BrokerRequest::Reply { reply: Box::new(reply), accepted })
}

fn read(command: &RemotingCommand) -> Option<Reply> {
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
