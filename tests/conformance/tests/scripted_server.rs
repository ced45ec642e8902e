//! The scripted server does what scripts say, on a real socket.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use conformance::{case::Sighting, script::Script, server::ScriptedServer};
use rocketmq_thin_proto::v2::{
    messaging_service_client::MessagingServiceClient, receive_message_response::Content, settings::PubSub,
    telemetry_command::Command, *,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

fn script(yaml: &str) -> Script {
    serde_yaml_ng::from_str(yaml).unwrap()
}

async fn connected(server: &ScriptedServer) -> MessagingServiceClient<Channel> {
    MessagingServiceClient::connect(format!("http://{}", server.endpoint())).await.unwrap()
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}

fn sending(ids: &[&str]) -> SendMessageRequest {
    let message = |id: &&str| Message {
        topic: resource("orders"),
        system_properties: Some(SystemProperties { message_id: (*id).to_owned(), ..Default::default() }),
        ..Default::default()
    };
    SendMessageRequest { messages: ids.iter().map(message).collect() }
}

fn code(status: Option<Status>) -> Code {
    status.unwrap().code()
}

fn sighting(yaml: &str) -> Sighting {
    serde_yaml_ng::from_str(yaml).unwrap()
}

#[tokio::test]
async fn rules_decide_by_number_and_request() {
    let server = ScriptedServer::start(&script(
        "rules:
        - {rpc: SendMessage, calls: 1, code: TOO_MANY_REQUESTS, text: slow down}
        - {rpc: SendMessage, request: {messages: $len:2}, entries: [OK, FORBIDDEN]}
        - {rpc: SendMessage, calls: 3, grpc: UNAVAILABLE}",
    ))
    .await
    .unwrap();
    let mut client = connected(&server).await;
    let first = client.send_message(sending(&["a"])).await.unwrap().into_inner();
    assert_eq!((code(first.status), first.entries.len()), (Code::TooManyRequests, 0));
    let second = client.send_message(sending(&["a", "b"])).await.unwrap().into_inner();
    assert_eq!(code(second.status), Code::MultipleResults);
    assert_eq!(code(second.entries[1].status.clone()), Code::Forbidden);
    assert_eq!(client.send_message(sending(&["a"])).await.unwrap_err().code(), tonic::Code::Unavailable);
    let fourth = client.send_message(sending(&["a"])).await.unwrap().into_inner();
    assert_eq!((code(fourth.status), fourth.entries[0].message_id.as_str()), (Code::Ok, "a"));
    let twice = "{rpc: SendMessage, request: {messages: [{system_properties: {message_id: a}}]}, count: 3}";
    assert_eq!(server.seen().check(&sighting(twice)), Ok(()));
    assert!(server.seen().check(&sighting("{rpc: '*', count: 3}")).is_err());
}

#[tokio::test]
async fn hanging_calls_are_released_and_connections_cut() {
    let server = ScriptedServer::start(&script(
        "rules: [{rpc: Heartbeat, calls: 1, hang: true}, {rpc: Heartbeat, calls: 2, drop: true}]",
    ))
    .await
    .unwrap();
    let mut client = connected(&server).await;
    let mut waiting = client.clone();
    let first = tokio::spawn(async move { waiting.heartbeat(HeartbeatRequest::default()).await });
    server.seen().wait(&sighting("{rpc: Heartbeat, count: 1}")).await;
    server.release();
    assert_eq!(code(first.await.unwrap().unwrap().into_inner().status), Code::Ok);
    assert!(client.heartbeat(HeartbeatRequest::default()).await.is_err());
    server.stop();
    assert!(client.heartbeat(HeartbeatRequest::default()).await.is_err());
}

#[tokio::test]
async fn messages_are_handed_out_once() {
    let server = ScriptedServer::start(&script(
        "messages: [{body: a, encoding: zlib}, {topic: others, body: x}, {body: b}]
rules: [{rpc: ReceiveMessage, calls: 2, no_delivery_timestamp: true}]",
    ))
    .await
    .unwrap();
    let mut client = connected(&server).await;
    let mut shapes = Vec::new();
    for _ in 0..2 {
        let queue = MessageQueue { topic: resource("orders"), ..Default::default() };
        let request =
            ReceiveMessageRequest { message_queue: Some(queue), batch_size: 32, ..Default::default() };
        let stream = client.receive_message(request).await.unwrap().into_inner();
        let shape = |response: Result<ReceiveMessageResponse, _>| match response.unwrap().content.unwrap() {
            Content::Status(status) => format!("{:?}", status.code()),
            Content::Message(message) => message.system_properties.unwrap().receipt_handle.unwrap(),
            Content::DeliveryTimestamp(_) => "time".to_owned(),
        };
        shapes.push(stream.map(shape).collect::<Vec<_>>().await);
    }
    assert_eq!(shapes, [vec!["Ok", "h1", "h3", "time"], vec!["MessageNotFound"]]);
}

#[tokio::test]
async fn telemetry_answers_settings_until_it_is_disconnected() {
    let server = ScriptedServer::start(&Script::default()).await.unwrap();
    let mut client = connected(&server).await;
    let (commands, outgoing) = tokio::sync::mpsc::channel(1);
    let publishing = Publishing { topics: vec![resource("orders").unwrap()], ..Default::default() };
    let settings = Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Default::default() };
    let command = TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
    commands.send(command).await.unwrap();
    let mut stream = client.telemetry(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let reply = stream.next().await.unwrap().unwrap();
    assert_eq!(code(reply.status), Code::Ok);
    let Some(Command::Settings(settings)) = reply.command else { panic!("no settings") };
    assert_eq!(settings.backoff_policy.unwrap().max_attempts, 3);
    server.disconnect_telemetry();
    assert!(stream.next().await.is_none());
    let settings = "{rpc: Settings, request: {publishing: {topics: [{name: orders}]}}, count: 1}";
    assert_eq!(server.seen().check(&sighting(settings)), Ok(()));
}

#[tokio::test]
async fn tls_is_trusted_by_its_own_authority_only() {
    let server = ScriptedServer::start(&script("tls: {name: localhost}")).await.unwrap();
    let reach = async |authority: &str| {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        let endpoint = Endpoint::from_shared(server.endpoint()).unwrap().tls_config(tls).unwrap();
        endpoint.connect_timeout(Duration::from_secs(30)).connect().await
    };
    let mut client = MessagingServiceClient::new(reach(&server.authorities().trusted).await.unwrap());
    assert_eq!(
        code(client.heartbeat(HeartbeatRequest::default()).await.unwrap().into_inner().status),
        Code::Ok
    );
    assert!(reach(&server.authorities().other).await.is_err());
}
