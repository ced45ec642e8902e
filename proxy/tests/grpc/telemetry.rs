//! Telemetry, Heartbeat and NotifyClientTermination.

use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::settings::PubSub;
use rocketmq_thin_proto::v2::telemetry_command::Command;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::support::{Client, Proxy, code, request, request_of, resource};

pub(crate) fn consumer(group: &str) -> pb::TelemetryCommand {
    settings(
        pb::ClientType::SimpleConsumer,
        PubSub::Subscription(pb::Subscription { group: resource(group), ..Default::default() }),
    )
}

fn producer(topic: &str) -> pb::TelemetryCommand {
    settings(
        pb::ClientType::Producer,
        PubSub::Publishing(pb::Publishing {
            topics: resource(topic).into_iter().collect(),
            ..Default::default()
        }),
    )
}

fn settings(client_type: pb::ClientType, pub_sub: PubSub) -> pb::TelemetryCommand {
    pb::TelemetryCommand {
        status: None,
        command: Some(Command::Settings(pb::Settings {
            client_type: Some(client_type.into()),
            pub_sub: Some(pub_sub),
            ..Default::default()
        })),
    }
}

pub(crate) async fn open(
    client: &mut Client,
    client_id: &str,
) -> (mpsc::Sender<pb::TelemetryCommand>, Streaming<pb::TelemetryCommand>) {
    let (commands, requests) = mpsc::channel(4);
    let answers = client.telemetry(request_of(client_id, ReceiverStream::new(requests))).await;
    (commands, answers.expect("a stream").into_inner())
}

async fn heartbeat(client: &mut Client, group: &str) -> pb::Code {
    let beat = pb::HeartbeatRequest { group: resource(group), client_type: 0 };
    code(client.heartbeat(request(beat)).await.expect("an answer").into_inner().status)
}

#[tokio::test]
async fn settings_are_returned_with_the_servers_values() {
    let proxy = Proxy::configured(|config| {
        config.groups = vec![toml::from_str("name = 'g'\nfifo = true\nmax_retries = 3").expect("a group")];
    })
    .await;
    let mut client = proxy.client().await;
    let (commands, mut answers) = open(&mut client, "client").await;
    commands.send(consumer("g")).await.expect("sent");
    let answer = answers.message().await.expect("no failure").expect("an answer");
    assert_eq!(code(answer.status), pb::Code::Ok);
    let Some(Command::Settings(settings)) = answer.command else { panic!("settings") };
    assert_eq!(settings.backoff_policy.map(|policy| policy.max_attempts), Some(4));
    let Some(PubSub::Subscription(subscription)) = settings.pub_sub else { panic!("a subscription") };
    assert_eq!(subscription.fifo, Some(true));
    assert_eq!(subscription.receive_batch_size, Some(32));

    // The client changes its role on the same stream.
    commands.send(producer("t")).await.expect("sent");
    let answer = answers.message().await.expect("no failure").expect("an answer");
    let Some(Command::Settings(settings)) = answer.command else { panic!("settings") };
    let Some(PubSub::Publishing(publishing)) = settings.pub_sub else { panic!("a publishing") };
    assert_eq!(publishing.max_body_size, 4 << 20);
    assert!(publishing.validate_message_type);
}

#[tokio::test]
async fn both_kinds_of_lite_consumers_need_a_lite_group_and_no_others_may_use_it() {
    let proxy = Proxy::configured(|config| {
        config.groups = vec![toml::from_str("name = 'lite'\nlite_bind_topic = 't'").expect("a group")];
    })
    .await;
    let mut client = proxy.client().await;
    for kind in [
        pb::ClientType::LitePushConsumer,
        pb::ClientType::LiteSimpleConsumer,
        pb::ClientType::PushConsumer,
        pb::ClientType::SimpleConsumer,
    ] {
        let is_lite = matches!(kind, pb::ClientType::LitePushConsumer | pb::ClientType::LiteSimpleConsumer);
        for (group, fits) in [("lite", is_lite), ("plain", !is_lite)] {
            let subscription = pb::Subscription { group: resource(group), ..Default::default() };
            let (commands, mut answers) = open(&mut client, "client").await;
            commands.send(settings(kind, PubSub::Subscription(subscription))).await.expect("sent");
            match answers.message().await {
                Ok(answer) => assert!(fits && answer.is_some(), "{kind:?} {group}"),
                Err(refused) => {
                    assert!(!fits, "{kind:?} {group}: {refused}");
                    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_an_orderly_end() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let (commands, mut answers) = open(&mut client, "client").await;
    drop(commands);
    assert!(answers.message().await.expect("no failure").is_none());
}

#[tokio::test]
async fn invalid_settings_end_the_stream_and_the_previous_ones_stay_in_force() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let (commands, mut answers) = open(&mut client, "client").await;
    commands.send(consumer("g")).await.expect("sent");
    answers.message().await.expect("no failure").expect("an answer");
    commands.send(consumer("a b")).await.expect("sent");
    let ended = answers.message().await.expect_err("the end");
    assert_eq!(ended.code(), tonic::Code::InvalidArgument);
    assert_eq!(heartbeat(&mut client, "g").await, pb::Code::Ok);
}

#[tokio::test]
async fn a_stream_without_a_client_id_ends_with_the_reason() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let requests = tokio_stream::once(producer("t"));
    let mut answers = client.telemetry(requests).await.expect("a stream").into_inner();
    let answer = answers.message().await.expect("no failure").expect("an answer");
    assert_eq!(code(answer.status), pb::Code::ClientIdRequired);
    assert!(answers.message().await.expect("no failure").is_none());
}

#[tokio::test]
async fn a_heartbeat_needs_settings_that_are_forgotten_when_the_client_terminates() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    assert_eq!(heartbeat(&mut client, "g").await, pb::Code::UnrecognizedClientType);
    let (commands, mut answers) = open(&mut client, "client").await;
    commands.send(consumer("g")).await.expect("sent");
    answers.message().await.expect("no failure").expect("an answer");
    assert_eq!(heartbeat(&mut client, "g").await, pb::Code::Ok);
    assert_eq!(heartbeat(&mut client, "").await, pb::Code::IllegalConsumerGroup);
    let bye = pb::NotifyClientTerminationRequest { group: resource("g") };
    let bye = client.notify_client_termination(request(bye)).await.expect("an answer").into_inner();
    assert_eq!(code(bye.status), pb::Code::Ok);
    assert_eq!(heartbeat(&mut client, "g").await, pb::Code::UnrecognizedClientType);
}

#[tokio::test]
async fn a_consumer_of_a_missing_group_can_not_start() {
    let proxy = Proxy::configured(|config| config.backend.embedded.auto_create_groups = false).await;
    let mut client = proxy.client().await;
    let (commands, mut answers) = open(&mut client, "client").await;
    commands.send(consumer("nobody")).await.expect("sent");
    let ended = answers.message().await.expect_err("the end");
    assert_eq!(ended.code(), tonic::Code::InvalidArgument);
    assert_eq!(ended.message(), "process client telemetryCommand failed. group not found: nobody");
}
