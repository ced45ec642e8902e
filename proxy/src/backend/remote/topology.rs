//! A topic's route: its brokers and queues.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::remoting::lenient;
use crate::service::names::permission_of;

/// A topic's route, as a name server returns it (Apache's `TopicRouteData`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TopicRoute {
    /// The brokers that hold the topic.
    #[serde(rename = "brokerDatas")]
    pub(super) brokers: Vec<Broker>,
    /// The queues on each broker.
    #[serde(rename = "queueDatas")]
    pub(super) queues: Vec<Queues>,
    /// The write queues of a topic that was created as ordered, `broker:count;broker:count`. They are fixed, even if some of
    /// these brokers are down.
    #[serde(rename = "orderTopicConf")]
    order: Option<String>,
    // These are computed once per lookup instead of once per message.
    #[serde(skip)]
    writable: Vec<WritableQueue>,
    #[serde(skip)]
    readable: Vec<BrokerAddress>,
}

/// A broker's name, and the address at which to call it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BrokerAddress {
    pub(super) name: String,
    pub(super) address: String,
}

/// A queue to send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WritableQueue {
    /// The broker's master.
    pub(super) broker: BrokerAddress,
    pub(super) id: i32,
}

/// A broker and its replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Broker {
    #[serde(rename = "brokerName")]
    pub(super) name: String,
    pub(super) cluster: String,
    /// Replica id -> `host:port`; 0 is the master.
    #[serde(rename = "brokerAddrs")]
    pub(super) addresses: BTreeMap<i64, String>,
}

/// A topic's queues on one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Queues {
    pub(super) broker_name: String,
    pub(super) perm: i32,
    #[serde(rename = "readQueueNums")]
    pub(super) read: i32,
    #[serde(rename = "writeQueueNums")]
    pub(super) write: i32,
}

impl Queues {
    pub(super) fn readable(&self) -> bool {
        permission_of(self.perm).read
    }

    pub(super) fn writable(&self) -> bool {
        permission_of(self.perm).write
    }
}

impl Broker {
    /// The address of the master.
    pub(super) fn master(&self) -> Option<&str> {
        self.addresses.get(&0).map(String::as_str)
    }

    /// The address to read from: that of the master, or of the first replica while there is no master.
    pub(super) fn readable_address(&self) -> Option<&str> {
        self.addresses.values().next().map(String::as_str)
    }
}

impl TopicRoute {
    /// Parses a name server's answer. As with Apache's proxy, a topic without brokers or queues counts as absent.
    pub(super) fn parse(body: &[u8]) -> serde_json::Result<Option<Self>> {
        let mut route: Self = lenient::from_slice(body)?;
        route.writable = route.find_writable();
        route.readable = route.find_readable();
        Ok((!route.brokers.is_empty() && !route.queues.is_empty()).then_some(route))
    }

    /// All writable queues, ordered as in Apache's proxy by broker name and id. The order determines the queue of a message
    /// group, and must be the same on every proxy of a fleet.
    pub(super) fn writable(&self) -> &[WritableQueue] {
        &self.writable
    }

    /// The brokers with readable queues, ordered by name.
    pub(super) fn readable(&self) -> &[BrokerAddress] {
        &self.readable
    }

    fn find_writable(&self) -> Vec<WritableQueue> {
        let order = self.order.as_deref().filter(|order| !order.trim().is_empty());
        let counts: Vec<(&str, i32)> = match order {
            // As in Apache's proxy, the brokers' permissions don't matter here.
            Some(order) => order.split(';').filter_map(fixed_count).collect(),
            None => {
                let writable = self.queues.iter().filter(|queues| queues.writable());
                writable.map(|queues| (queues.broker_name.as_str(), queues.write)).collect()
            }
        };
        let mut queues: Vec<_> = counts
            .into_iter()
            .filter_map(|(broker, count)| Some((broker, self.broker(broker)?.master()?, count)))
            .flat_map(|(broker, address, count)| {
                let broker = BrokerAddress { name: broker.to_owned(), address: address.to_owned() };
                (0..count).map(move |id| WritableQueue { broker: broker.clone(), id })
            })
            .collect();
        queues.sort_by(|a, b| (&a.broker.name, a.id).cmp(&(&b.broker.name, b.id)));
        queues.dedup();
        queues
    }

    fn find_readable(&self) -> Vec<BrokerAddress> {
        let mut brokers: Vec<_> = self
            .queues
            .iter()
            .filter(|queues| queues.readable() && queues.read > 0)
            .filter_map(|queues| {
                let address = self.broker(&queues.broker_name)?.readable_address()?;
                Some(BrokerAddress { name: queues.broker_name.clone(), address: address.to_owned() })
            })
            .collect();
        brokers.sort();
        brokers.dedup();
        brokers
    }

    /// The broker with this name; `None` if it does not hold the topic.
    pub(super) fn broker(&self, name: &str) -> Option<&Broker> {
        self.brokers.iter().find(|broker| broker.name == name)
    }
}

/// Splits `broker:count`.
fn fixed_count(item: &str) -> Option<(&str, i32)> {
    let mut words = item.split(':');
    Some((words.next()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_spellings_of_replica_numbers() {
        for addresses in [r#"{0:"h:1",1:"h:2"}"#, r#"{"0":"h:1","1":"h:2"}"#] {
            let body = format!(
                r#"{{"brokerDatas":[{{"brokerAddrs":{addresses},"brokerName":"b","cluster":"c","zoneName":null}}],
                    "filterServerTable":{{}},
                    "queueDatas":[{{"brokerName":"b","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":8}}]}}"#
            );
            let route = TopicRoute::parse(body.as_bytes()).unwrap().unwrap();
            assert_eq!(route.broker("b").unwrap().master(), Some("h:1"));
            assert_eq!((route.queues[0].read, route.queues[0].write), (4, 8));
            assert!(route.queues[0].readable() && route.queues[0].writable());
        }
    }

    #[test]
    fn queues_are_sorted_by_broker_and_id() {
        let body = r#"{"brokerDatas":[{"brokerAddrs":{"0":"h:1"},"brokerName":"b"},{"brokerAddrs":{"0":"h:2"},"brokerName":"a"},
                {"brokerAddrs":{"1":"h:3"},"brokerName":"replica"}],
            "queueDatas":[{"brokerName":"b","perm":6,"readQueueNums":1,"writeQueueNums":2},
                {"brokerName":"a","perm":2,"readQueueNums":1,"writeQueueNums":1},
                {"brokerName":"replica","perm":6,"readQueueNums":1,"writeQueueNums":1}]}"#;
        let route = TopicRoute::parse(body.as_bytes()).unwrap().unwrap();
        let queues: Vec<_> = route
            .writable()
            .iter()
            .map(|queue| (queue.broker.name.as_str(), queue.broker.address.as_str(), queue.id))
            .collect();
        assert_eq!(queues, [("a", "h:2", 0), ("b", "h:1", 0), ("b", "h:1", 1)]);
        let readable = [("b", "h:1"), ("replica", "h:3")]
            .map(|(name, address)| BrokerAddress { name: name.to_owned(), address: address.to_owned() });
        assert_eq!(route.readable(), readable);
    }

    #[test]
    fn an_ordered_topic_has_fixed_queues() {
        let body = r#"{"brokerDatas":[{"brokerAddrs":{"0":"h:1"},"brokerName":"a"},{"brokerAddrs":{"0":"h:2"},"brokerName":"b"}],
            "orderTopicConf":"b:2;gone:8;a:1;b:1;odd",
            "queueDatas":[{"brokerName":"a","perm":4,"writeQueueNums":16},{"brokerName":"b","perm":6,"writeQueueNums":16}]}"#;
        let route = TopicRoute::parse(body.as_bytes()).unwrap().unwrap();
        let queues: Vec<_> =
            route.writable().iter().map(|queue| (queue.broker.name.as_str(), queue.id)).collect();
        assert_eq!(queues, [("a", 0), ("b", 0), ("b", 1)]);
        let blank = TopicRoute::parse(body.replace("b:2;gone:8;a:1;b:1;odd", " ").as_bytes());
        assert_eq!(blank.unwrap().unwrap().writable().len(), 16);
    }

    #[test]
    fn a_topic_without_queues_is_absent() {
        let route = TopicRoute::parse(br#"{"brokerDatas":[],"queueDatas":[]}"#).unwrap();
        assert_eq!(route, None);
    }
}
