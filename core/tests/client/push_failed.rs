//! Ordered messages whose handler has failed, and that wait in the client for the next attempt. When the consumer gives
//! them up, the server must count the attempt, and must not deliver them before their retry delay has passed.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rocketmq_thin::{ConsumeResult, PushConsumer, PushConsumerOptions, Task};
use rocketmq_thin_proto::v2::{self, Code};

use crate::{
    client,
    ordered_group::{group_settings, of_group},
    server::{Script, TestServer, message},
};

/// A retry delay, in milliseconds, that no test waits for.
const AN_HOUR: u32 = 3_600_000;

/// A server of an ordered group with this retry delay, in milliseconds. The first receive returns a message that fails
/// and one behind it. Later receives don't end.
fn ordered(delay: u32) -> TestServer {
    let hung = AtomicUsize::new(0);
    let messages: Vec<_> = ["failing", "behind"].map(|id| of_group(message(id, "x"), "group")).into();
    TestServer::start(Script {
        receive: Box::new(move |_, _| (Code::Ok, "OK", messages.clone())),
        hang: Box::new(move |_| hung.fetch_add(1, Ordering::SeqCst) > 0),
        group_settings: group_settings(true, &[delay], 9),
        ..Script::default()
    })
}

async fn next(consumer: &PushConsumer) -> Task {
    consumer.next_tasks(9).await.unwrap().remove(0)
}

/// A consumer whose first message has failed, and waits for its next attempt.
async fn with_failed_message(server: &TestServer) -> PushConsumer {
    let options = PushConsumerOptions::new("g", ["t"]);
    let consumer = client(server).await.push_consumer(options).await.unwrap();
    next(&consumer).await.complete(ConsumeResult::Retry);
    consumer
}

/// The one change of the failed message. The message behind it must have been given back, which does not count.
async fn change_of_failed_message(server: &TestServer) -> v2::ChangeInvisibleDurationRequest {
    server.seen.wait("change_invisible", 2).await;
    let changed = server.seen.changed.lock().unwrap().clone();
    let (mut failed, behind): (Vec<_>, Vec<_>) =
        changed.into_iter().partition(|it| it.message_id == "failing");
    assert_eq!((failed.len(), behind.len()), (1, 1));
    assert_eq!((behind[0].message_id.as_str(), behind[0].suspend), ("behind", Some(true)));
    failed.remove(0)
}

/// The failed message must come back after the rest of an hour, and the attempt must count.
async fn assert_returned_with_its_delay(server: &TestServer) {
    let failed = change_of_failed_message(server).await;
    assert_eq!(failed.suspend, None);
    let delay = failed.invisible_duration.unwrap().seconds;
    assert!((60..=3600).contains(&delay), "{delay}");
}

#[tokio::test]
async fn a_close_returns_a_failed_message() {
    let server = ordered(AN_HOUR);
    let consumer = with_failed_message(&server).await;
    let report = consumer.close(Duration::from_secs(20)).await;
    assert_returned_with_its_delay(&server).await;
    assert_eq!((report.handled, report.given_back, report.abandoned), (0, 2, 0));
}

#[tokio::test]
async fn a_dropped_consumer_returns_a_failed_message() {
    let server = ordered(AN_HOUR);
    let consumer = with_failed_message(&server).await;
    drop(consumer);
    assert_returned_with_its_delay(&server).await;
}

#[tokio::test]
async fn the_end_of_a_subscription_returns_a_failed_message() {
    let server = ordered(AN_HOUR);
    let consumer = with_failed_message(&server).await;
    consumer.unsubscribe("t").await.unwrap();
    assert_returned_with_its_delay(&server).await;
}

#[tokio::test]
async fn a_failed_message_that_is_put_back_still_counts_as_failed() {
    let server = ordered(1);
    let consumer = with_failed_message(&server).await;
    for _ in 0..2 {
        let task = next(&consumer).await;
        assert_eq!((task.delivery.message_id.as_str(), task.delivery.attempt), ("failing", 2));
        task.put_back();
    }
    consumer.close(Duration::from_secs(20)).await;
    assert_eq!(change_of_failed_message(&server).await.suspend, None);
}

#[tokio::test]
async fn a_closed_consumer_returns_a_failed_message_that_is_put_back() {
    let server = ordered(1);
    let consumer = with_failed_message(&server).await;
    let task = next(&consumer).await;
    let closing = consumer.clone();
    let close = tokio::spawn(async move { closing.close(Duration::from_secs(20)).await });
    server.seen.wait("change_invisible", 1).await;
    task.put_back();
    let report = close.await.unwrap();
    assert_eq!((report.handled, report.given_back, report.abandoned), (0, 2, 0));
    assert_eq!(change_of_failed_message(&server).await.suspend, None);
}

#[tokio::test]
async fn a_failed_message_that_is_put_back_after_the_consumer_was_dropped_is_returned() {
    let server = ordered(1);
    let consumer = with_failed_message(&server).await;
    let task = next(&consumer).await;
    drop(consumer);
    task.put_back();
    assert_eq!(change_of_failed_message(&server).await.suspend, None);
}
