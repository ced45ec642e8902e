//! Results of settlements, also during a close.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rocketmq_thin::{ConsumeResult, ErrorKind, PushConsumerOptions};
use rocketmq_thin_proto::v2::Code;

use crate::{
    client,
    server::{Script, TestServer, acked, message},
};

#[tokio::test]
async fn the_result_of_a_settlement_can_be_awaited() {
    let received = AtomicUsize::new(0);
    let messages = ["acked", "refused", "retried", "abandoned"].map(|id| message(id, "x"));
    let server = TestServer::start(Script {
        receive: Box::new(move |_, _| (Code::Ok, "OK", messages.to_vec())),
        hang: Box::new(move |_| received.fetch_add(1, Ordering::SeqCst) > 0),
        ack: Box::new(|request, _| {
            acked(request, |handle| match handle {
                "handle of acked" => Code::Ok,
                _ => Code::InvalidReceiptHandle,
            })
        }),
        ..Script::default()
    });
    let consumer = client(&server).await.push_consumer(PushConsumerOptions::new("g", ["t"])).await.unwrap();
    let mut abandoned = None;
    for mut task in consumer.next_tasks(9).await.unwrap() {
        let settled = task.settled();
        match task.delivery.message_id.as_str() {
            "acked" => {
                task.complete(ConsumeResult::Ack);
                settled.await.unwrap();
            }
            "refused" => {
                task.complete(ConsumeResult::Ack);
                assert_eq!(settled.await.unwrap_err().kind(), ErrorKind::InvalidReceipt);
            }
            "retried" => {
                task.complete(ConsumeResult::Retry);
                settled.await.unwrap();
            }
            _ => abandoned = Some((task, settled)),
        }
    }
    let (task, settled) = abandoned.unwrap();
    consumer.close(Duration::ZERO).await;
    task.complete(ConsumeResult::Ack);
    assert_eq!(settled.await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_close_settles_what_is_handled_though_the_consumer_is_dropped() {
    for closes_client in [false, true] {
        let received = AtomicUsize::new(0);
        let server = TestServer::start(Script {
            receive: Box::new(|_, _| (Code::Ok, "OK", vec![message("1", "x")])),
            hang: Box::new(move |_| received.fetch_add(1, Ordering::SeqCst) > 0),
            ..Script::default()
        });
        let client = client(&server).await;
        let consumer = client.push_consumer(PushConsumerOptions::new("g", ["t"])).await.unwrap();
        let mut task = consumer.next_tasks(1).await.unwrap().remove(0);
        let settled = task.settled();
        server.seen.wait("receive", 2).await;
        let minute = Duration::from_secs(60);
        let mut close = Box::pin(async {
            if closes_client { client.close(minute).await } else { consumer.close(minute).await }
        });
        assert!(futures::poll!(&mut close).is_pending());
        server.seen.wait("poll ended", 1).await;
        drop(close);
        drop(consumer);
        task.complete(ConsumeResult::Ack);
        settled.await.unwrap();
        server.seen.wait("termination", 1).await;
    }
}
