use std::collections::BTreeMap;

use serde::Deserialize;

use crate::remoting::lenient;

/// What a name server knows of a topic (Apache's `TopicRouteData`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TopicRoute {
    /// Who holds it.
    #[serde(rename = "brokerDatas")]
    pub(super) brokers: Vec<Broker>,
    /// How many queues each of them has.
    #[serde(rename = "queueDatas")]
    pub(super) queues: Vec<Queues>,
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

const PERM_WRITE: i32 = 2;
const PERM_READ: i32 = 4;

impl Queues {
    pub(super) fn readable(&self) -> bool {
        self.perm & PERM_READ != 0
    }

    pub(super) fn writable(&self) -> bool {
        self.perm & PERM_WRITE != 0
    }
}

impl Broker {
    pub(super) fn master(&self) -> Option<&str> {
        self.addresses.get(&0).map(String::as_str)
    }

    /// Where to read: the master, or the first replica while there is none.
    pub(super) fn readable_address(&self) -> Option<&str> {
        self.addresses.values().next().map(String::as_str)
    }
}

impl TopicRoute {
    /// Reads a name server's answer. A topic that is known but has no queues counts as absent, as with Apache.
    pub(super) fn parse(body: &[u8]) -> serde_json::Result<Option<Self>> {
        let route: Self = lenient::from_slice(body)?;
        Ok((!route.brokers.is_empty() && !route.queues.is_empty()).then_some(route))
    }

    pub(super) fn broker(&self, name: &str) -> Option<&Broker> {
        self.brokers.iter().find(|broker| broker.name == name)
    }
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
    fn without_queues_a_topic_is_absent() {
        let route = TopicRoute::parse(br#"{"brokerDatas":[],"queueDatas":[]}"#).unwrap();
        assert_eq!(route, None);
    }
}
