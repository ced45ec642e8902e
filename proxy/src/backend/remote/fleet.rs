//! The proxies of a fleet, which find each other as members of a producer group at the brokers.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde::Deserialize;

use super::answer::success;
use super::cluster::Cluster;
use super::heartbeat;
use crate::remoting::{RemotingCommand, lenient, request};
use crate::service::{ServiceError, ServiceErrorKind};

/// The members of a producer group in the brokers' JSON (Apache's `ProducerConnection`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    connection_set: Vec<Member>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    client_id: String,
}

impl Cluster {
    /// Registers this proxy in the fleet's producer group at all masters, and returns the number of members. A master forgets
    /// a proxy when its connection ends.
    pub(super) async fn join_fleet(&self, fleet: &str) -> Result<u32, ServiceError> {
        let masters = self.masters().await?;
        let listed = join_all(masters.iter().map(|address| self.join_fleet_at(address, fleet))).await;
        let (mut members, mut failure) = (BTreeSet::new(), None);
        for listed in listed {
            match listed {
                Ok(found) => members.extend(found),
                Err(error) => failure = Some(error),
            }
        }
        // A master that was unreachable for a moment may have forgotten some of them, but not the others.
        if members.contains(&self.incoming.client_id) {
            return Ok(u32::try_from(members.len()).unwrap_or(u32::MAX));
        }
        Err(failure.unwrap_or_else(|| {
            ServiceError::new(ServiceErrorKind::Unavailable, "the brokers do not list this proxy")
        }))
    }

    async fn join_fleet_at(&self, address: &str, fleet: &str) -> Result<Vec<String>, ServiceError> {
        let timeout = self.options.lookup_timeout;
        let join = heartbeat::of_producers(&self.incoming.client_id, &[fleet]);
        success(self.peers.call(address, join, timeout).await?)?;
        let list =
            RemotingCommand::request(request::GET_PRODUCER_CONNECTION_LIST).field("producerGroup", fleet);
        let listed = success(self.peers.call(address, list, timeout).await?)?;
        let unreadable = |error| ServiceError::new(ServiceErrorKind::Internal, format!("{address}: {error}"));
        let members: Members = lenient::from_slice(&listed.body).map_err(unreadable)?;
        Ok(members.connection_set.into_iter().map(|member| member.client_id).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::backend::remote::scripted;
    use crate::remoting::response;

    /// A broker that lists the producers of each group. It forgets nobody.
    async fn broker() -> String {
        let joined: Arc<Mutex<BTreeSet<(String, String)>>> = Arc::default();
        scripted::peer(move |command| {
            let mut joined = joined.lock();
            let answer = RemotingCommand::request(response::SUCCESS);
            if command.code == request::HEART_BEAT {
                let body: Value = serde_json::from_slice(&command.body).expect("JSON");
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                joined.insert((text(&body["producerDataSet"][0]["groupName"]), text(&body["clientID"])));
                return answer;
            }
            let group = command.text("producerGroup").expect("a group");
            let members = joined.iter().filter(|(of, _)| of == group);
            let members: Vec<_> = members.map(|(_, id)| json!({"clientId": id, "version": 1})).collect();
            answer.body(json!({"connectionSet": members}).to_string())
        })
        .await
    }

    #[tokio::test]
    async fn the_proxies_of_a_fleet_count_each_other() {
        let (one, other) = (broker().await, broker().await);
        let broker = |name: &str, address: &str| json!({"brokerName": name, "brokerAddrs": {"0": address}});
        let route = json!({"brokerDatas": [broker("a", &one), broker("b", &other)], "queueDatas": [
            {"brokerName": "a"}, {"brokerName": "b"}]});
        let name_server =
            scripted::peer(move |_| RemotingCommand::request(response::SUCCESS).body(route.to_string()));
        let name_server = name_server.await;
        let proxies = [(); 3].map(|()| scripted::cluster(std::slice::from_ref(&name_server)));
        let stranger = scripted::cluster(&[name_server]);
        for (proxy, members) in proxies.iter().zip(1..) {
            assert_eq!(proxy.join_fleet("fleet-1").await.ok(), Some(members));
            assert_eq!(stranger.join_fleet("fleet-2").await.ok(), Some(1));
        }
        assert_eq!(proxies[0].join_fleet("fleet-1").await.ok(), Some(3));
    }
}
