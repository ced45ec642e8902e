//! Entries: each has its own addresses in routes, its own protocols and its own access control.

use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::config::{EntryAccess, EntryConfig, EntryProtocol};
use rocketmq_thin_proxy::remoting::RemotingCommand;
use serde_json::Value;

use crate::access::offline;
use crate::classic::{Classic, code as classic_code, send as classic_send};
use crate::support::{Proxy, code, message, request, resource, send};

/// Requests of the remoting protocol.
const ROUTE: i32 = 105;
const CLUSTER_INFO: i32 = 106;

/// An entry from its TOML, on a free port.
fn entry(text: &str) -> EntryConfig {
    toml::from_str(&format!("listen = '127.0.0.1:0'\n{text}")).expect("an entry")
}

/// The addresses in a gRPC client's route.
async fn grpc_route(address: std::net::SocketAddr) -> Vec<String> {
    let mut client = Proxy::client_at(address).await;
    let dialled = pb::Address { host: "127.0.0.1".to_owned(), port: 1 };
    let endpoints = pb::Endpoints { scheme: pb::AddressScheme::IPv4.into(), addresses: vec![dialled] };
    let query = pb::QueryRouteRequest { topic: resource("t"), endpoints: Some(endpoints) };
    let route = client.query_route(request(query)).await.expect("an answer").into_inner();
    let broker = route.message_queues[0].broker.as_ref().expect("a broker");
    let addresses = &broker.endpoints.as_ref().expect("endpoints").addresses;
    addresses.iter().map(|address| format!("{}:{}", address.host, address.port)).collect()
}

/// All strings in a JSON answer that contain a port.
fn addresses(answer: &RemotingCommand) -> Vec<String> {
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::String(text) if text.contains(':') => into.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
            Value::Object(fields) => fields.values().for_each(|field| collect(field, into)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_slice(&answer.body).expect("JSON"), &mut found);
    found
}

#[tokio::test]
async fn a_route_contains_the_addresses_of_its_entry() {
    let named = ["mq.example.com:8443", "10.1.0.7:8443"];
    let proxy = Proxy::configured(|config| {
        config.remoting.addresses = vec!["192.0.2.1:8081".to_owned()];
        config.entries = vec![
            entry("name = 'public'\naddresses = ['mq.example.com:8443', '10.1.0.7:8443']"),
            entry("name = 'inner'"),
        ];
    })
    .await;
    send(&mut proxy.client().await, vec![message("t", "1", "one")]).await;

    let (main, inner) = (proxy.address.to_string(), proxy.entry("inner").to_string());
    for (address, grpc, classic) in [
        (proxy.address, vec![&*main], vec![&*main, "192.0.2.1:8081"]),
        (proxy.entry("inner"), vec![&*inner], vec![&*inner]),
        (proxy.entry("public"), named.to_vec(), named.to_vec()),
    ] {
        assert_eq!(grpc_route(address).await, grpc);
        let mut client = Classic::connect(address).await;
        for asked in
            [RemotingCommand::request(ROUTE).field("topic", "t"), RemotingCommand::request(CLUSTER_INFO)]
        {
            assert_eq!(addresses(&client.call(asked).await), classic);
        }
    }
}

#[tokio::test]
async fn only_an_entry_without_access_control_serves_anonymous_clients() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.toml");
    offline(&file, &["user", "add", "shop"]);
    let proxy = Proxy::configured(|config| {
        config.access.file = Some(file);
        config.entries = vec![
            EntryConfig { access: EntryAccess::Off, ..entry("name = 'intranet'") },
            entry("name = 'public'"),
        ];
    })
    .await;
    for (address, grpc, classic) in [
        (proxy.entry("intranet"), pb::Code::Ok, classic_code::SUCCESS),
        (proxy.entry("public"), pb::Code::Unauthorized, classic_code::NO_PERMISSION),
        (proxy.address, pb::Code::Unauthorized, classic_code::NO_PERMISSION),
    ] {
        let mut client = Proxy::client_at(address).await;
        assert_eq!(code(send(&mut client, vec![message("t", "1", "one")]).await.status), grpc);
        let mut client = Classic::connect(address).await;
        assert_eq!(client.call(classic_send("t", 0, &[("UNIQ_KEY", "id")], "body")).await.code, classic);
    }
}

#[tokio::test]
async fn an_entry_serves_its_protocols_and_administration_if_configured() {
    let proxy = Proxy::configured(|config| {
        config.entries = vec![
            EntryConfig { protocols: vec![EntryProtocol::Remoting], ..entry("name = 'classic'") },
            EntryConfig { administration: true, ..entry("name = 'tools'") },
        ];
    })
    .await;
    let mut classic = Classic::connect(proxy.entry("classic")).await;
    let create = || RemotingCommand::request(17).field("topic", "made").field("readQueueNums", 1);
    let create =
        || create().field("writeQueueNums", 1).field("perm", 6).field("topicFilterType", "SINGLE_TAG");
    assert_ne!(classic.call(create()).await.code, classic_code::SUCCESS);
    let mut tools = Classic::connect(proxy.entry("tools")).await;
    let made = tools.call(create()).await;
    assert_eq!(made.code, classic_code::SUCCESS, "{:?}", made.remark);

    let mut client = Proxy::client_at(proxy.entry("classic")).await;
    let query = pb::QueryRouteRequest { topic: resource("made"), endpoints: None };
    assert!(client.query_route(request(query.clone())).await.is_err(), "no gRPC here");
    let mut client = Proxy::client_at(proxy.entry("tools")).await;
    assert_eq!(
        code(client.query_route(request(query)).await.expect("an answer").into_inner().status),
        pb::Code::Ok
    );
}
