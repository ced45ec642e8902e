//! Subscriptions that change at run time.

use std::time::Duration;

use rocketmq_thin::{ErrorKind, Filter, ReceiveOptions, SimpleConsumer, SimpleConsumerOptions, Subscription};
use rocketmq_thin_proto::v2::{self, Code};

use crate::{
    client,
    server::{Script, TestServer, message, topic},
};

async fn consumer(server: &TestServer, topics: &[&str]) -> SimpleConsumer {
    let options = SimpleConsumerOptions::new("g", topics.iter().copied());
    client(server).await.simple_consumer(options).await.unwrap()
}

/// A server that returns one message of each topic, except for `silent`, whose polls never end.
fn all_but_silent() -> Script {
    let receive = |request: &v2::ReceiveMessageRequest, _: usize| {
        (Code::Ok, "OK", vec![message(&format!("of {}", topic(request)), "x")])
    };
    let hang = |request: &v2::ReceiveMessageRequest| topic(request) == "silent";
    Script { receive: Box::new(receive), hang: Box::new(hang), ..Script::default() }
}

/// The subscribed topics in settings.
pub(crate) fn topics(settings: &v2::Settings) -> Vec<&str> {
    let Some(v2::settings::PubSub::Subscription(subscription)) = &settings.pub_sub else {
        panic!("no consumer")
    };
    subscription.subscriptions.iter().map(|it| it.topic.as_ref().unwrap().name.as_str()).collect()
}

#[tokio::test]
async fn a_waiting_receive_gets_messages_of_a_new_topic() {
    let server = TestServer::start(all_but_silent());
    let consumer = consumer(&server, &["silent"]).await;
    let waiting = consumer.clone();
    let receive = tokio::spawn(async move { waiting.receive(ReceiveOptions::default()).await });
    server.seen.wait("receive", 1).await;
    consumer.subscribe("new").await.unwrap();
    assert_eq!(receive.await.unwrap().unwrap()[0].topic, "new");
    assert_eq!(topics(server.seen.settings.lock().unwrap().last().unwrap()), ["silent", "new"]);
    assert_eq!(consumer.subscriptions(), [Subscription::from("silent"), Subscription::from("new")]);
}

#[tokio::test]
async fn an_unknown_topic_changes_nothing() {
    let route =
        |request: &v2::QueryRouteRequest, _: usize| match request.topic.as_ref().unwrap().name.as_str() {
            "unknown" => Code::TopicNotFound,
            _ => Code::Ok,
        };
    let server = TestServer::start(Script { route: Box::new(route), ..all_but_silent() });
    let consumer = consumer(&server, &["a"]).await;
    let error = consumer.subscribe("unknown").await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::TopicNotFound, "subscribe"));
    let error = consumer.subscribe(Subscription::new("a", Filter::Tags(Vec::new()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(consumer.subscriptions(), [Subscription::from("a")]);
    assert_eq!(server.seen.counted("settings"), 1);
    assert_eq!(consumer.receive(ReceiveOptions::default()).await.unwrap()[0].topic, "a");
}

#[tokio::test]
async fn settings_that_a_server_refuses_are_undone() {
    let refuse = |settings: &v2::Settings| topics(settings).contains(&"bad");
    let server = TestServer::start(Script { refuse: Box::new(refuse), ..all_but_silent() });
    let consumer = consumer(&server, &["a"]).await;
    let error = consumer.subscribe("bad").await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidArgument, "subscribe"));
    assert_eq!(consumer.subscriptions(), [Subscription::from("a")]);
    // The stream reopens with settings that the server accepts.
    server.seen.wait("settings", 3).await;
    assert_eq!(topics(server.seen.settings.lock().unwrap().last().unwrap()), ["a"]);
    assert_eq!(consumer.receive(ReceiveOptions::default()).await.unwrap()[0].topic, "a");
}

#[tokio::test]
async fn polls_of_an_unsubscribed_topic_end_and_waiting_deliveries_are_given_back() {
    let server = TestServer::start(all_but_silent());
    let consumer = consumer(&server, &["silent", "b"]).await;
    let delivery = consumer.receive(ReceiveOptions::default()).await.unwrap();
    consumer.put_back(delivery);
    consumer.unsubscribe("b").await.unwrap();
    let given_back = server.seen.changed.lock().unwrap().remove(0);
    assert_eq!((given_back.message_id.as_str(), given_back.suspend), ("of b", Some(true)));
    consumer.unsubscribe("silent").await.unwrap();
    server.seen.wait("poll ended", 1).await;
    consumer.unsubscribe("never subscribed").await.unwrap();
    assert!(topics(server.seen.settings.lock().unwrap().last().unwrap()).is_empty());
    let error = consumer.receive(ReceiveOptions::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidArgument, "receive"));
}

#[tokio::test]
async fn what_a_poll_has_brought_when_it_is_stopped_is_given_back() {
    let script = Script { unfinished: |request| topic(request) == "slow", ..all_but_silent() };
    let server = TestServer::start(script);
    let consumer = consumer(&server, &["slow"]).await;
    let waiting = consumer.clone();
    let receive = tokio::spawn(async move { waiting.receive(ReceiveOptions::default()).await });
    server.seen.wait("given out", 1).await;
    consumer.unsubscribe("slow").await.unwrap();
    server.seen.wait("change_invisible", 1).await;
    let given_back = server.seen.changed.lock().unwrap().remove(0);
    assert_eq!((given_back.message_id.as_str(), given_back.suspend), ("of slow", Some(true)));
    receive.abort();
}

#[tokio::test]
async fn a_new_filter_replaces_the_old_one() {
    let server = TestServer::start(all_but_silent());
    let consumer = consumer(&server, &["a"]).await;
    let before = consumer.receive(ReceiveOptions::default()).await.unwrap();
    consumer.put_back(before);
    consumer.subscribe(Subscription::new("a", Filter::tags(["new"]))).await.unwrap();
    // The delivery was received with the old filter.
    assert_eq!(server.seen.counted("change_invisible"), 1);
    consumer.receive(ReceiveOptions::default()).await.unwrap();
    let received = server.seen.received.lock().unwrap();
    let filter = received.last().unwrap().filter_expression.as_ref().unwrap();
    assert_eq!(filter.expression, "new");
}

#[tokio::test]
async fn subscriptions_do_not_change_after_the_close() {
    let server = TestServer::start(all_but_silent());
    let consumer = consumer(&server, &["a"]).await;
    consumer.close(Duration::from_secs(5)).await;
    assert_eq!(consumer.subscribe("b").await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(consumer.unsubscribe("a").await.unwrap_err().kind(), ErrorKind::Closed);
}
