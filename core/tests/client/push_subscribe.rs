//! Subscriptions of a push consumer that change at run time.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use rocketmq_thin::{
    ConsumeResult, ErrorKind, Filter, PushConsumer, PushConsumerOptions, Subscription, Task,
};
use rocketmq_thin_proto::v2::{self, Code};

use crate::{
    client,
    ordered_group::{group_settings, of_group},
    push::wait_for_acks,
    server::{Script, TestServer, message, topic},
    subscribe::topics,
};

/// A server that returns three messages, named after the topic and numbered, for the first receive of each topic and
/// filter. Later receives don't end. The messages belong to the message group `of` if there is one.
fn three_of_each_topic(of: Option<&'static str>) -> Script {
    let receive = move |request: &v2::ReceiveMessageRequest, _: usize| {
        let message = |number| message(&format!("{}{number}", topic(request)), "x");
        let grouped = |message| if let Some(of) = of { of_group(message, of) } else { message };
        (Code::Ok, "OK", (0..3).map(message).map(grouped).collect())
    };
    let polled = Mutex::new(HashSet::new());
    let hang = move |request: &v2::ReceiveMessageRequest| {
        let filter = request.filter_expression.as_ref().unwrap().expression.clone();
        !polled.lock().unwrap().insert((topic(request).to_owned(), filter))
    };
    Script { receive: Box::new(receive), hang: Box::new(hang), ..Script::default() }
}

async fn consumer(server: &TestServer, topics: &[&str]) -> PushConsumer {
    let options = PushConsumerOptions::new("g", topics.iter().copied()).concurrency(1);
    client(server).await.push_consumer(options).await.unwrap()
}

async fn next(consumer: &PushConsumer) -> Task {
    consumer.next_tasks(1).await.unwrap().remove(0)
}

/// The messages that were given back.
fn given_back(server: &TestServer) -> HashSet<String> {
    let changed = server.seen.changed.lock().unwrap();
    changed.iter().filter(|it| it.suspend == Some(true)).map(|it| it.message_id.clone()).collect()
}

fn ids(ids: &[&str]) -> HashSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[tokio::test]
async fn messages_of_new_topics_are_handled() {
    let server = TestServer::start(three_of_each_topic(None));
    let consumer = consumer(&server, &["a"]).await;
    consumer.subscribe("before").await.unwrap();
    consumer.start(|_| async { ConsumeResult::Ack }).unwrap();
    wait_for_acks(&server, 6).await;
    consumer.subscribe("while").await.unwrap();
    let acked: HashSet<_> = wait_for_acks(&server, 9).await.into_iter().collect();
    assert!(acked.is_superset(&ids(&["before0", "while0"])), "{acked:?}");
    assert_eq!(topics(server.seen.settings.lock().unwrap().last().unwrap()), ["a", "before", "while"]);
    assert_eq!(consumer.subscriptions(), ["a", "before", "while"].map(Subscription::from));
}

#[tokio::test]
async fn a_refused_subscription_changes_nothing() {
    let route =
        |request: &v2::QueryRouteRequest, _: usize| match request.topic.as_ref().unwrap().name.as_str() {
            "unknown" => Code::TopicNotFound,
            _ => Code::Ok,
        };
    let server = TestServer::start(Script { route: Box::new(route), ..three_of_each_topic(None) });
    let consumer = consumer(&server, &["a"]).await;
    let error = consumer.subscribe("unknown").await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::TopicNotFound, "subscribe"));
    let error = consumer.subscribe(Subscription::new("a", Filter::Tags(Vec::new()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(consumer.subscriptions(), [Subscription::from("a")]);
    assert_eq!(server.seen.counted("settings"), 1);
    assert_eq!(next(&consumer).await.delivery.topic, "a");
}

#[tokio::test]
async fn the_messages_of_a_removed_topic_that_wait_are_given_back_and_those_being_handled_are_settled() {
    let server = TestServer::start(three_of_each_topic(None));
    let consumer = consumer(&server, &["a"]).await;
    let task = next(&consumer).await;
    // The poll after the one that brought the messages.
    server.seen.wait("receive", 2).await;
    consumer.unsubscribe("a").await.unwrap();
    assert_eq!(given_back(&server), ids(&["a1", "a2"]));
    server.seen.wait("poll ended", 1).await;
    assert!(topics(server.seen.settings.lock().unwrap().last().unwrap()).is_empty());
    task.complete(ConsumeResult::Ack);
    assert_eq!(wait_for_acks(&server, 1).await, ["a0"]);
    consumer.unsubscribe("never subscribed").await.unwrap();
    // A consumer without subscriptions is idle until it subscribes again.
    consumer.subscribe("b").await.unwrap();
    assert_eq!(next(&consumer).await.delivery.topic, "b");
}

#[tokio::test]
async fn what_a_poll_has_brought_when_its_topic_is_removed_is_given_back() {
    let script = Script { unfinished: |_| true, ..three_of_each_topic(None) };
    let server = TestServer::start(script);
    let consumer = consumer(&server, &["a"]).await;
    consumer.start(|_| async { ConsumeResult::Ack }).unwrap();
    server.seen.wait("given out", 1).await;
    consumer.unsubscribe("a").await.unwrap();
    server.seen.wait("change_invisible", 3).await;
    assert_eq!(given_back(&server), ids(&["a0", "a1", "a2"]));
    assert_eq!(server.seen.counted("ack"), 0);
}

#[tokio::test]
async fn a_new_filter_replaces_the_old_one() {
    let server = TestServer::start(three_of_each_topic(None));
    let consumer = consumer(&server, &["a", "b"]).await;
    let task = next(&consumer).await;
    let (changed, other) = if task.delivery.topic == "a" { ("a", "b") } else { ("b", "a") };
    server.seen.wait("receive", 4).await;
    consumer.subscribe(Subscription::new(changed, Filter::tags(["new"]))).await.unwrap();
    // Messages of the other topic still wait for the handler.
    let waited = [format!("{changed}1"), format!("{changed}2")];
    assert_eq!(given_back(&server), waited.into());
    task.complete(ConsumeResult::Ack);
    let mut handled = Vec::new();
    while handled.len() < 6 {
        let task = next(&consumer).await;
        handled.push(task.delivery.topic.clone());
        task.complete(ConsumeResult::Ack);
    }
    assert_eq!(handled.iter().filter(|topic| *topic == other).count(), 3, "{handled:?}");
    let received = server.seen.received.lock().unwrap();
    let filters: Vec<_> = received
        .iter()
        .filter(|request| topic(request) == changed)
        .map(|request| request.filter_expression.as_ref().unwrap().expression.as_str())
        .collect();
    assert_eq!((filters[0], *filters.last().unwrap()), ("*", "new"));
}

#[tokio::test]
async fn a_failed_ordered_message_of_a_removed_topic_is_returned() {
    let script =
        Script { group_settings: group_settings(true, &[7000], 3), ..three_of_each_topic(Some("group")) };
    let server = TestServer::start(script);
    let consumer = consumer(&server, &["a"]).await;
    let task = next(&consumer).await;
    consumer.unsubscribe("a").await.unwrap();
    assert_eq!(given_back(&server), ids(&["a1", "a2"]));
    task.complete(ConsumeResult::Retry);
    server.seen.wait("change_invisible", 3).await;
    let returned = server.seen.changed.lock().unwrap().last().unwrap().clone();
    assert_eq!((returned.message_id.as_str(), returned.invisible_duration.unwrap().seconds), ("a0", 7));
    let report = consumer.close(Duration::from_secs(5)).await;
    assert_eq!((report.given_back, report.abandoned), (0, 0));
}

#[tokio::test]
async fn a_task_of_a_removed_topic_that_is_put_back_is_given_back() {
    let server = TestServer::start(three_of_each_topic(None));
    let consumer = consumer(&server, &["a"]).await;
    let task = next(&consumer).await;
    consumer.unsubscribe("a").await.unwrap();
    task.put_back();
    server.seen.wait("change_invisible", 3).await;
    assert_eq!(given_back(&server), ids(&["a0", "a1", "a2"]));
    consumer.subscribe("b").await.unwrap();
    assert_eq!(next(&consumer).await.delivery.topic, "b");
}

#[tokio::test]
async fn a_pause_stays_in_force() {
    let server = TestServer::start(three_of_each_topic(None));
    let consumer = consumer(&server, &["a"]).await;
    let task = next(&consumer).await;
    server.seen.wait("receive", 2).await;
    consumer.pause();
    consumer.subscribe("b").await.unwrap();
    consumer.unsubscribe("a").await.unwrap();
    assert_eq!(given_back(&server), ids(&["a1", "a2"]));
    task.complete(ConsumeResult::Ack);
    wait_for_acks(&server, 1).await;
    assert!(consumer.is_paused());
    assert_eq!(server.seen.counted("receive"), 2);
    consumer.resume();
    assert_eq!(next(&consumer).await.delivery.topic, "b");
}

#[tokio::test]
async fn a_handler_may_remove_its_own_topic() {
    let server = TestServer::start(three_of_each_topic(None));
    let consumer = Arc::new(consumer(&server, &["a"]).await);
    let own = Arc::downgrade(&consumer);
    consumer
        .start(move |delivery| {
            let consumer = own.upgrade().unwrap();
            async move {
                consumer.unsubscribe(&delivery.topic).await.unwrap();
                ConsumeResult::Ack
            }
        })
        .unwrap();
    assert_eq!(wait_for_acks(&server, 1).await, ["a0"]);
    assert_eq!(given_back(&server), ids(&["a1", "a2"]));
}

#[tokio::test]
async fn subscriptions_do_not_change_after_the_close_and_not_of_a_lite_consumer() {
    let server = TestServer::start(Script::default());
    let client = client(&server).await;
    let closed = client.push_consumer(PushConsumerOptions::new("g", ["a"])).await.unwrap();
    closed.close(Duration::from_secs(5)).await;
    assert_eq!(closed.subscribe("b").await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(closed.unsubscribe("a").await.unwrap_err().kind(), ErrorKind::Closed);
    let lite = client.push_consumer(PushConsumerOptions::lite("g", "parent")).await.unwrap();
    assert_eq!(lite.subscribe("a").await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(lite.unsubscribe("parent").await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}
