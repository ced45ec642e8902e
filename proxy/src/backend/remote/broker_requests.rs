//! Requests of brokers to clients. Brokers send them on the connections over which this proxy registered its producers
//! (Apache's `ClientManageProcessor`, `Broker2Client`).

use std::time::Instant;

use async_trait::async_trait;
use futures::future::join_all;
use futures::{StreamExt, stream};
use parking_lot::Mutex;

use super::cluster::Cluster;
use super::convert::{self, InflateBudget};
use super::half_message::HalfMessage;
use super::incoming::{Announced, Announcement, Incoming};
use super::services::Remote;
use super::{heartbeat, replies};
use crate::remoting::message::decode_all;
use crate::remoting::{RemotingCommand, request};
use crate::service::{BrokerRequest, BrokerRequests, Delivery, Reply, ServiceError};

/// Producer groups of one heartbeat.
const GROUPS_PER_HEARTBEAT: usize = 100;
/// The maximum number of concurrent calls that register or unregister clients at brokers.
const MAX_CONCURRENT_CALLS: usize = 64;

#[async_trait]
impl BrokerRequests for Remote {
    async fn announce_producers(&self, topics: &[String]) {
        self.cluster.announce_producers(topics).await;
    }

    async fn announce_requesters(&self, clients: &[String]) {
        self.cluster.announce_requesters(clients).await;
    }

    async fn join_fleet(&self, fleet: &str) -> Result<u32, ServiceError> {
        self.cluster.join_fleet(fleet).await
    }

    async fn reply(&self, reply: Reply, deadline: Instant) -> Result<(), ServiceError> {
        replies::send(&self.cluster, &reply, deadline).await
    }

    async fn next(&self) -> BrokerRequest {
        loop {
            match self.cluster.incoming.next().await.map(client_request) {
                Some(Some(request)) => return request,
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }
}

impl Cluster {
    async fn announce_producers(&self, topics: &[String]) {
        let mut wanted = Announced::new();
        for (topic, route) in topics.iter().zip(join_all(topics.iter().map(|topic| self.route(topic))).await)
        {
            let brokers = route.as_ref().map_or(&[][..], |route| &route.brokers);
            for address in brokers.iter().filter_map(|broker| broker.master()) {
                let announcement =
                    Announcement { client_id: self.incoming.client_id.clone(), group: topic.clone() };
                wanted.entry(address.to_owned()).or_default().insert(announcement);
            }
        }
        self.announce(&self.incoming.producers, wanted).await;
    }

    /// Brokers look for the receiver of a reply among the clients of producer groups. A broker keeps only one client per
    /// group and connection, so each requester is registered in a producer group of its own.
    async fn announce_requesters(&self, clients: &[String]) {
        if clients.is_empty() && self.incoming.requesters.lock().is_empty() {
            return;
        }
        let masters = match self.masters().await {
            Ok(masters) => masters,
            Err(error) => {
                tracing::debug!(%error, "could not register at the brokers the clients that wait for replies");
                return;
            }
        };
        let of_client = |client: &String| Announcement { client_id: client.clone(), group: client.clone() };
        let all = |address| (address, clients.iter().map(of_client).collect());
        self.announce(&self.incoming.requesters, masters.into_iter().map(all).collect()).await;
    }

    /// Registers all wanted announcements at the brokers, and unregisters those that are no longer wanted.
    async fn announce(&self, announced: &Mutex<Announced>, wanted: Announced) {
        let previous = std::mem::replace(&mut *announced.lock(), wanted.clone());
        let unregistrations = previous.iter().flat_map(|(address, previous)| {
            let wanted = wanted.get(address);
            let removed =
                previous.iter().filter(move |one| wanted.is_none_or(|wanted| !wanted.contains(*one)));
            removed.map(|Announcement { client_id, group }| {
                (address.clone(), heartbeat::unregister(client_id, group))
            })
        });
        let registrations = wanted.iter().flat_map(|(address, wanted)| {
            let wanted = Vec::from_iter(wanted);
            let by_client = wanted.chunk_by(|one, next| one.client_id == next.client_id);
            let heartbeats = by_client.flat_map(|of_client| of_client.chunks(GROUPS_PER_HEARTBEAT));
            let commands = heartbeats.map(|announcements| {
                let groups: Vec<_> = announcements.iter().map(|one| one.group.as_str()).collect();
                heartbeat::of_producers(&announcements[0].client_id, &groups)
            });
            commands.map(|command| (address.clone(), command)).collect::<Vec<_>>()
        });
        let calls = stream::iter(unregistrations.chain(registrations).collect::<Vec<_>>());
        let call = async |(address, command): (String, RemotingCommand)| {
            if let Err(error) = self.peers.call(&address, command, self.options.lookup_timeout).await {
                tracing::debug!(address, %error, "could not announce clients to a broker");
            }
        };
        calls.for_each_concurrent(MAX_CONCURRENT_CALLS, call).await;
    }
}

/// Decodes a broker's request to a client. Returns `None` if the request is unreadable or of another kind.
fn client_request(Incoming { request: command, responder, .. }: Incoming) -> Option<BrokerRequest> {
    match command.code {
        request::CHECK_TRANSACTION_STATE => {
            read_check(&command).map(|check| BrokerRequest::Check(Box::new(check)))
        }
        request::NOTIFY_UNSUBSCRIBE_LITE => Some(BrokerRequest::LiteUnsubscribed {
            client_id: command.text("clientId")?.to_owned(),
            lite_topic: command.text("liteTopic")?.to_owned(),
        }),
        request::PUSH_REPLY_MESSAGE_TO_CLIENT => replies::receive(&command, responder),
        code => {
            tracing::debug!(code, "ignored a broker's request of an unknown kind");
            None
        }
    }
}

fn read_check(command: &RemotingCommand) -> Option<Delivery> {
    let half = HalfMessage {
        broker: command.text("bname")?.to_owned(),
        table_offset: command.number("tranStateTableOffset")?,
        commit_log_offset: command.number("commitLogOffset")?,
    };
    let stored = decode_all(command.body.clone()).into_iter().next()?;
    let topic = stored.topic.clone();
    Some(Delivery {
        coordinates: half.to_string(),
        attempt: 1,
        ..convert::delivery(&stored, topic, &mut InflateBudget::default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remoting::message::StoredMessage;
    use crate::remoting::properties;

    fn half() -> StoredMessage {
        let host = std::net::SocketAddr::from(([127, 0, 0, 1], 10911));
        StoredMessage {
            topic: "orders".to_owned(),
            queue_id: 2,
            queue_offset: 9,
            commit_log_offset: 77,
            flag: 0,
            system_flags: 4,
            born_at: 1,
            born_host: host,
            stored_at: 2,
            store_host: host,
            reconsume_times: 0,
            properties: properties::encode([("UNIQ_KEY", "id-1"), ("TRAN_MSG", "true")]),
            body: "x".into(),
        }
    }

    #[test]
    fn a_check_names_the_message_and_its_transaction() {
        let command = RemotingCommand::request(request::CHECK_TRANSACTION_STATE)
            .field("tranStateTableOffset", 5)
            .field("commitLogOffset", 77)
            .field("bname", "broker-a")
            .body(half().encode());
        let Some(BrokerRequest::Check(check)) = client_request(Incoming::of(command)) else {
            panic!("a check")
        };
        assert_eq!((check.topic.as_str(), check.message.id.as_str()), ("orders", "id-1"));
        assert_eq!(check.coordinates, "broker-a 5 77");
    }

    #[test]
    fn unreadable_requests_are_ignored() {
        for code in [request::CHECK_TRANSACTION_STATE, request::PUSH_REPLY_MESSAGE_TO_CLIENT, 40] {
            assert!(client_request(Incoming::of(RemotingCommand::request(code))).is_none(), "{code}");
        }
    }
}
