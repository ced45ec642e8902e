//! Messages of push consumers that no handler has seen: tasks are put back, and messages given back to the server.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rocketmq_thin::{ConsumeResult, ProducerOptions, PushConsumerOptions};
use rocketmq_thin_proto::v2::Code;

use crate::{
    client,
    log::Log,
    server::{Script, TestServer, message},
};

/// A server that returns three messages for the first receive. Later receives don't end.
fn three_messages() -> TestServer {
    let hung = AtomicUsize::new(0);
    let messages: Vec<_> = ["0", "1", "2"].map(|id| message(id, "x")).into();
    TestServer::start(Script {
        receive: Box::new(move |_, _| (Code::Ok, "OK", messages.clone())),
        hang: Box::new(move |_| hung.fetch_add(1, Ordering::SeqCst) > 0),
        ..Script::default()
    })
}

#[tokio::test]
async fn a_task_that_is_put_back_is_handed_out_next_and_its_attempt_does_not_count() {
    let server = three_messages();
    let options = PushConsumerOptions::new("g", ["t"]).concurrency(1);
    let consumer = client(&server).await.push_consumer(options).await.unwrap();
    for _ in 0..3 {
        let task = consumer.next_tasks(9).await.unwrap().remove(0);
        assert_eq!((task.delivery.message_id.as_str(), task.delivery.attempt), ("0", 1));
        assert_eq!(task.delivery.body, "x");
        std::thread::spawn(|| task.put_back()).join().unwrap();
    }
    consumer.next_tasks(9).await.unwrap().remove(0).complete(ConsumeResult::Ack);
    server.seen.wait("ack", 1).await;
    assert_eq!(server.seen.counted("change_invisible"), 0);
}

#[tokio::test]
async fn a_closed_consumer_gives_back_a_task_that_is_put_back() {
    let server = three_messages();
    let options = PushConsumerOptions::new("g", ["t"]).concurrency(2);
    let consumer = client(&server).await.push_consumer(options).await.unwrap();
    let mut tasks = consumer.next_tasks(2).await.unwrap();
    let closing = consumer.clone();
    let close = tokio::spawn(async move { closing.close(Duration::from_secs(20)).await });
    server.seen.wait("change_invisible", 1).await;
    tasks.remove(0).put_back();
    server.seen.wait("change_invisible", 2).await;
    tasks.remove(0).put_back();
    let report = close.await.unwrap();
    assert_eq!((report.handled, report.given_back, report.abandoned), (0, 3, 0));
    let changed = server.seen.changed.lock().unwrap().clone();
    let given_back: Vec<_> =
        changed.iter().filter(|it| it.suspend == Some(true)).map(|it| it.message_id.as_str()).collect();
    assert_eq!(given_back, ["2", "0", "1"]);
}

#[tokio::test]
async fn a_task_that_is_put_back_after_the_consumer_was_dropped_is_given_back() {
    let server = three_messages();
    let options = PushConsumerOptions::new("g", ["t"]).concurrency(3);
    let client = client(&server).await;
    let consumer = client.push_consumer(options).await.unwrap();
    let mut tasks = consumer.next_tasks(1).await.unwrap();
    drop(consumer);
    tasks.remove(0).put_back();
    server.seen.wait("change_invisible", 3).await;
    let changed = server.seen.changed.lock().unwrap().clone();
    assert!(changed.iter().all(|it| it.suspend == Some(true)));
}

#[tokio::test]
async fn what_a_stopped_poll_has_brought_is_given_back_within_the_close() {
    let receive = |_: &_, _| (Code::Ok, "OK", vec![message("1", "x"), message("2", "x")]);
    let server =
        TestServer::start(Script { receive: Box::new(receive), unfinished: |_| true, ..Script::default() });
    let client = client(&server).await;
    let consumer = client.push_consumer(PushConsumerOptions::new("g", ["t"])).await.unwrap();
    consumer.start(|_| async { ConsumeResult::Ack }).unwrap();
    server.seen.wait("given out", 1).await;
    // An answer on the same connection arrives after the messages.
    client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let report = consumer.close(Duration::from_secs(20)).await;
    assert_eq!((report.handled, report.given_back), (0, 2));
    assert_eq!(server.seen.changed.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_dropped_consumer_gives_back_messages_whose_handlers_have_not_begun() {
    let (log, server) = (Log::default(), three_messages());
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let options = PushConsumerOptions::new("g", ["t"]).concurrency(1);
    let consumer = client(&server).await.push_consumer(options).await.unwrap();
    let tasks = consumer.next_tasks(9).await.unwrap();
    assert_eq!(tasks.len(), 1);
    assert!(!log.text().contains("WARN"));
    drop(consumer);
    assert!(log.text().contains("a push consumer has ended, because it was dropped without a close"));
    server.seen.wait("change_invisible", 2).await;
    let changed = server.seen.changed.lock().unwrap().clone();
    let mut given_back: Vec<_> =
        changed.iter().filter(|it| it.suspend == Some(true)).map(|it| it.message_id.as_str()).collect();
    given_back.sort_unstable();
    assert_eq!(given_back, ["1", "2"]);
}
