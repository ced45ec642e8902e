//! Lite consumers.

use std::time::{Duration, UNIX_EPOCH};

use rocketmq_thin::{ErrorKind, OffsetOption, ReceiveOptions, SimpleConsumer, SimpleConsumerOptions};
use rocketmq_thin_proto::v2::{
    self, Code, LiteSubscriptionAction as Action, NotifyUnsubscribeLiteCommand,
    offset_option::{OffsetType, Policy},
    settings::PubSub,
    telemetry_command::Command,
};

use crate::{
    client,
    server::{Script, TestServer, message},
};

async fn consumer(server: &TestServer) -> SimpleConsumer {
    client(server).await.simple_consumer(SimpleConsumerOptions::lite("g", "parent")).await.unwrap()
}

/// The changes of lite topics that the server received, in order.
fn synced(server: &TestServer) -> Vec<(Action, Vec<String>)> {
    let requests = server.seen.synced.lock().unwrap();
    requests.iter().map(|request| (request.action(), request.lite_topic_set.clone())).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn lite_topics_are_added_and_removed_one_by_one() {
    let receive = |_: &_, _| {
        let mut lite = message("1", "x");
        lite.system_properties.as_mut().unwrap().lite_topic = Some("a".to_owned());
        (Code::Ok, "OK", vec![lite])
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let consumer = consumer(&server).await;
    consumer.subscribe_lite("a").await.unwrap();
    consumer.subscribe_lite("b").await.unwrap();
    consumer.subscribe_lite("a").await.unwrap();
    assert_eq!(consumer.lite_topics(), ["a", "b"]);
    consumer.unsubscribe_lite("b").await.unwrap();
    consumer.unsubscribe_lite("never").await.unwrap();
    assert_eq!(consumer.lite_topics(), ["a"]);
    let expected = [
        (Action::PartialAdd, names(&["a"])),
        (Action::PartialAdd, names(&["b"])),
        (Action::PartialRemove, names(&["b"])),
    ];
    assert_eq!(synced(&server), expected);
    let delivery = consumer.receive(ReceiveOptions::default()).await.unwrap().remove(0);
    assert_eq!((delivery.topic.as_str(), delivery.lite_topic.as_deref()), ("parent", Some("a")));
    let request = server.seen.synced.lock().unwrap()[0].clone();
    assert_eq!((request.topic.unwrap().name, request.group.unwrap().name), ("parent".into(), "g".into()));
    let settings = server.seen.settings.lock().unwrap()[0].clone();
    assert_eq!(settings.client_type(), v2::ClientType::LiteSimpleConsumer);
}

#[tokio::test]
async fn the_server_is_told_where_the_group_starts() {
    let server = TestServer::start(Script::default());
    let consumer = consumer(&server).await;
    consumer.subscribe_lite("default").await.unwrap();
    let starts = [
        (OffsetOption::Last, OffsetType::Policy(Policy::Last.into())),
        (OffsetOption::Min, OffsetType::Policy(Policy::Min.into())),
        (OffsetOption::Max, OffsetType::Policy(Policy::Max.into())),
        (OffsetOption::Offset(7), OffsetType::Offset(7)),
        (OffsetOption::Tail(u64::MAX), OffsetType::TailN(i64::MAX)),
        (OffsetOption::Timestamp(UNIX_EPOCH + Duration::from_micros(2500)), OffsetType::Timestamp(2)),
    ];
    for (at, (start, _)) in starts.iter().enumerate() {
        consumer.subscribe_lite_from(&at.to_string(), *start).await.unwrap();
    }
    consumer.subscribe_lite_from("0", OffsetOption::Max).await.unwrap();
    // The complete set moves no group.
    server.seen.drop_streams();
    server.seen.wait("sync_lite", 8).await;
    let sent: Vec<_> = server.seen.synced.lock().unwrap().iter().map(|it| it.offset_option).collect();
    assert_eq!((sent[0], sent[7]), (None, None));
    let options = starts.map(|(_, offset)| Some(v2::OffsetOption { offset_type: Some(offset) }));
    assert_eq!(sent[1..7], options);
}

#[tokio::test]
async fn a_new_stream_gets_the_complete_set() {
    let server = TestServer::start(Script::default());
    let consumer = consumer(&server).await;
    consumer.subscribe_lite("b").await.unwrap();
    consumer.subscribe_lite("a").await.unwrap();
    server.seen.drop_streams();
    server.seen.wait("sync_lite", 3).await;
    assert_eq!(synced(&server)[2], (Action::CompleteAdd, names(&["a", "b"])));
}

#[tokio::test]
async fn a_refused_lite_topic_is_not_subscribed_and_the_complete_set_is_sent() {
    let sync = |request: &v2::SyncLiteSubscriptionRequest, _| match request.action() {
        Action::PartialAdd if request.lite_topic_set == ["full"] => Code::LiteTopicQuotaExceeded,
        _ => Code::Ok,
    };
    let server = TestServer::start(Script { sync_lite: Box::new(sync), ..Script::default() });
    let consumer = consumer(&server).await;
    consumer.subscribe_lite("a").await.unwrap();
    let error = consumer.subscribe_lite("full").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Throttled, Some(42901)));
    assert_eq!(error.operation(), "subscribe_lite");
    assert_eq!(consumer.lite_topics(), ["a"]);
    // Another server might have accepted the change.
    server.seen.wait("sync_lite", 3).await;
    assert_eq!(synced(&server)[2], (Action::CompleteAdd, names(&["a"])));
}

#[tokio::test]
async fn the_quota_and_the_names_are_checked_before_anything_is_sent() {
    let group_settings = |settings: &v2::Settings, _| {
        let mut settings = settings.clone();
        if let Some(PubSub::Subscription(subscription)) = &mut settings.pub_sub {
            subscription.lite_subscription_quota = Some(1);
        }
        settings
    };
    let script = Script { group_settings: Box::new(group_settings), ..Script::default() };
    let server = TestServer::start(script);
    let consumer = consumer(&server).await;
    let error = consumer.subscribe_lite(" ").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidArgument, Some(40020)));
    consumer.subscribe_lite("a").await.unwrap();
    let error = consumer.subscribe_lite("b").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Throttled, Some(42902)));
    assert_eq!(server.seen.counted("sync_lite"), 1);
}

#[tokio::test]
async fn a_revoked_lite_topic_is_reported() {
    let server = TestServer::start(Script::default());
    let consumer = consumer(&server).await;
    let revocations = consumer.lite_revocations().unwrap();
    consumer.subscribe_lite("a").await.unwrap();
    consumer.subscribe_lite("b").await.unwrap();
    for lite_topic in ["never subscribed", "a"] {
        let command = NotifyUnsubscribeLiteCommand { lite_topic: lite_topic.into() };
        server.seen.push(Command::NotifyUnsubscribeLiteCommand(command));
    }
    assert_eq!(revocations.next().await.as_deref(), Some("a"));
    assert_eq!(consumer.lite_topics(), ["b"]);
    consumer.close(Duration::from_secs(5)).await;
    assert_eq!(revocations.next().await, None);
}

#[tokio::test]
async fn lite_and_ordinary_consumers_do_not_mix() {
    let server = TestServer::start(Script::default());
    let lite = consumer(&server).await;
    let ordinary = SimpleConsumerOptions::new("h", ["t"]);
    let ordinary = client(&server).await.simple_consumer(ordinary).await.unwrap();
    for error in [
        lite.subscribe("t").await.unwrap_err(),
        lite.unsubscribe("parent").await.unwrap_err(),
        ordinary.subscribe_lite("a").await.unwrap_err(),
        ordinary.unsubscribe_lite("a").await.unwrap_err(),
        ordinary.lite_revocations().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    assert!(ordinary.lite_topics().is_empty());
    assert_eq!(server.seen.counted("sync_lite"), 0);
}
