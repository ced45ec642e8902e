//! What brokers have to say to clients: they ask, and tell, over the connections on which this proxy announced
//! itself (Apache's `ClientManageProcessor`, `Broker2Client`).

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::cluster::Cluster;
use super::convert;
use super::services::Remote;
use super::transactions::HalfMessage;
use crate::remoting::message::decode_all;
use crate::remoting::{Command, request};
use crate::service::{BrokerRequest, BrokerRequests, Delivery};

/// Producer groups of one heartbeat.
const GROUPS_AT_ONCE: usize = 100;
/// Brokers' requests that wait to be heard. A check that finds no room is asked again by the broker.
pub(super) const ROOM: usize = 1024;

/// What was announced, and what the brokers say.
pub(super) struct IncomingRequests {
    /// This proxy, to brokers.
    client_id: String,
    /// Per master: the topics whose producers it may ask here.
    announced: Mutex<HashMap<String, BTreeSet<String>>>,
    requests: AsyncMutex<mpsc::Receiver<Command>>,
}

impl IncomingRequests {
    pub(super) fn new(requests: mpsc::Receiver<Command>) -> Self {
        let client_id = format!("rocketmq-thin-proxy@{:032x}", rand::random::<u128>());
        Self { client_id, announced: Mutex::default(), requests: AsyncMutex::new(requests) }
    }

    async fn next(&self) -> Option<Command> {
        self.requests.lock().await.recv().await
    }
}

#[async_trait]
impl BrokerRequests for Remote {
    async fn announce_producers(&self, topics: &[String]) {
        self.cluster.announce_producers(topics).await;
    }

    async fn next(&self) -> BrokerRequest {
        loop {
            match self.cluster.incoming.next().await.as_ref().map(client_request) {
                Some(Some(request)) => return request,
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }
}

impl Cluster {
    async fn announce_producers(&self, topics: &[String]) {
        let mut wanted: HashMap<String, BTreeSet<String>> = HashMap::new();
        for (topic, route) in topics.iter().zip(join_all(topics.iter().map(|topic| self.route(topic))).await)
        {
            let brokers = route.as_ref().map_or(&[][..], |route| &route.brokers);
            for address in brokers.iter().filter_map(|broker| broker.master()) {
                wanted.entry(address.to_owned()).or_default().insert(topic.clone());
            }
        }
        let before = std::mem::replace(&mut *self.incoming.announced.lock(), wanted.clone());
        let gone = before.iter().flat_map(|(address, topics)| {
            let kept = wanted.get(address);
            let gone = topics.iter().filter(move |topic| kept.is_none_or(|kept| !kept.contains(*topic)));
            gone.map(|topic| (address.clone(), unregister(&self.incoming.client_id, topic)))
        });
        let here = wanted.iter().flat_map(|(address, topics)| {
            let topics: Vec<_> = topics.iter().map(String::as_str).collect();
            let commands: Vec<_> = topics
                .chunks(GROUPS_AT_ONCE)
                .map(|topics| heartbeat(&self.incoming.client_id, topics))
                .collect();
            commands.into_iter().map(|command| (address.clone(), command))
        });
        let calls = gone.chain(here).map(async |(address, command)| {
            if let Err(error) = self.peers.call(&address, command, self.options.lookup_timeout).await {
                tracing::debug!(address, %error, "a broker does not know which producers are here");
            }
        });
        join_all(calls).await;
    }
}

fn heartbeat(client_id: &str, topics: &[&str]) -> Command {
    let groups: Vec<_> = topics.iter().map(|topic| json!({"groupName": topic})).collect();
    let body = json!({
        "clientID": client_id, "producerDataSet": groups, "consumerDataSet": [],
        "heartbeatFingerprint": 0, "withoutSub": false,
    });
    Command::request(request::HEART_BEAT).body(body.to_string())
}

/// A heartbeat of nobody: a question that every broker answers, and that changes nothing.
pub(super) fn nobody() -> Command {
    heartbeat("rocketmq-thin-proxy", &[])
}

fn unregister(client_id: &str, topic: &str) -> Command {
    Command::request(request::UNREGISTER_CLIENT).field("clientID", client_id).field("producerGroup", topic)
}

/// A broker's request, if it concerns a client.
fn client_request(command: &Command) -> Option<BrokerRequest> {
    match command.code {
        request::CHECK_TRANSACTION_STATE => check(command).map(|check| BrokerRequest::Check(Box::new(check))),
        request::NOTIFY_UNSUBSCRIBE_LITE => Some(BrokerRequest::LiteUnsubscribed {
            client_id: command.text("clientId")?.to_owned(),
            lite_topic: command.text("liteTopic")?.to_owned(),
        }),
        code => {
            tracing::debug!(code, "a broker's request that concerns nobody here");
            None
        }
    }
}

fn check(command: &Command) -> Option<Delivery> {
    let half = HalfMessage {
        broker: command.text("bname")?.to_owned(),
        table_offset: command.number("tranStateTableOffset")?,
        commit_log_offset: command.number("commitLogOffset")?,
    };
    let stored = decode_all(command.body.clone()).into_iter().next()?;
    let topic = stored.topic.clone();
    Some(Delivery { coordinates: half.to_string(), attempt: 1, ..convert::delivery(&stored, topic) })
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
        let command = Command::request(request::CHECK_TRANSACTION_STATE)
            .field("tranStateTableOffset", 5)
            .field("commitLogOffset", 77)
            .field("bname", "broker-a")
            .body(half().encode());
        let Some(BrokerRequest::Check(check)) = client_request(&command) else { panic!("a check") };
        assert_eq!((check.topic.as_str(), check.message.id.as_str()), ("orders", "id-1"));
        assert_eq!(check.coordinates, "broker-a 5 77");
    }

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        assert!(client_request(&Command::request(request::CHECK_TRANSACTION_STATE)).is_none());
        assert!(client_request(&Command::request(40)).is_none());
    }
}
