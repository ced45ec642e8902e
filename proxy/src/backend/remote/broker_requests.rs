//! Requests of brokers to clients. Brokers send them on the connections by which this proxy announced its producers
//! (Apache's `ClientManageProcessor`, `Broker2Client`).

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use futures::future::join_all;

use super::cluster::Cluster;
use super::convert::{self, InflateBudget};
use super::half_message::HalfMessage;
use super::heartbeat;
use super::services::Remote;
use crate::remoting::message::decode_all;
use crate::remoting::{Command, request};
use crate::service::{BrokerRequest, BrokerRequests, Delivery};

/// Producer groups of one heartbeat.
const GROUPS_PER_HEARTBEAT: usize = 100;

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
            gone.map(|topic| (address.clone(), heartbeat::unregister(&self.incoming.client_id, topic)))
        });
        let here = wanted.iter().flat_map(|(address, topics)| {
            let topics: Vec<_> = topics.iter().map(String::as_str).collect();
            let commands: Vec<_> = topics
                .chunks(GROUPS_PER_HEARTBEAT)
                .map(|topics| heartbeat::of_producers(&self.incoming.client_id, topics))
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

/// A broker's request to a client; `None` for other kinds and for what can't be read.
fn client_request(command: &Command) -> Option<BrokerRequest> {
    match command.code {
        request::CHECK_TRANSACTION_STATE => check(command).map(|check| BrokerRequest::Check(Box::new(check))),
        request::NOTIFY_UNSUBSCRIBE_LITE => Some(BrokerRequest::LiteUnsubscribed {
            client_id: command.text("clientId")?.to_owned(),
            lite_topic: command.text("liteTopic")?.to_owned(),
        }),
        code => {
            tracing::debug!(code, "ignored a broker's request of an unknown kind");
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
    fn requests_that_can_not_be_read_are_ignored() {
        assert!(client_request(&Command::request(request::CHECK_TRANSACTION_STATE)).is_none());
        assert!(client_request(&Command::request(40)).is_none());
    }
}
