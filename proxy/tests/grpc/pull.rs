//! PullMessage, UpdateOffset, GetOffset and QueryOffset.

use std::time::Duration;

use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::pull_message_response::Content;

use crate::support::{Client, Proxy, code, duration, message, request, resource, send, system};

/// Sends these messages to one queue of a topic, and returns the queue.
async fn queue_with(client: &mut Client, ids: &[&str]) -> pb::MessageQueue {
    let messages = ids.iter().map(|id| message("t", id, "body")).collect();
    // Messages of one request go to one queue.
    let sent = send(client, messages).await;
    let first = sent.entries.first().expect("an entry");
    let query = pb::QueryRouteRequest { topic: resource("t"), endpoints: None };
    let route = client.query_route(request(query)).await.expect("an answer").into_inner();
    let broker = route.message_queues.into_iter().next().and_then(|queue| queue.broker);
    for id in 0.. {
        let queue = pb::MessageQueue {
            topic: resource("t"),
            id,
            broker: broker.clone(),
            ..pb::MessageQueue::default()
        };
        let ends_there = query_end(client, &queue).await == first.offset + ids.len() as i64;
        if ends_there {
            return queue;
        }
    }
    unreachable!("the topic has no more queues: the query is refused")
}

async fn query_end(client: &mut Client, queue: &pb::MessageQueue) -> i64 {
    let query = pb::QueryOffsetRequest {
        message_queue: Some(queue.clone()),
        query_offset_policy: pb::QueryOffsetPolicy::End.into(),
        timestamp: None,
    };
    let answer = client.query_offset(request(query)).await.expect("an answer").into_inner();
    assert_eq!(code(answer.status), pb::Code::Ok);
    answer.offset
}

/// Pulls once. Returns the code, the ids of the messages, and the offset of the next pull.
async fn pull(client: &mut Client, queue: &pb::MessageQueue, offset: i64) -> (pb::Code, Vec<String>, i64) {
    let wanted = pb::PullMessageRequest {
        group: resource("g"),
        message_queue: Some(queue.clone()),
        offset,
        batch_size: 2,
        long_polling_timeout: duration(Duration::from_millis(20)),
        ..pb::PullMessageRequest::default()
    };
    let mut stream = client.pull_message(request(wanted)).await.expect("an answer").into_inner();
    let (mut status, mut ids, mut next) = (None, Vec::new(), -1);
    while let Some(part) = stream.message().await.expect("a part") {
        match part.content {
            Some(Content::Status(told)) => status = Some(told),
            Some(Content::Message(message)) => ids.push(system(&message).message_id.clone()),
            Some(Content::NextOffset(offset)) => next = offset,
            None => {}
        }
    }
    (code(status), ids, next)
}

#[tokio::test]
async fn a_queue_is_read_by_offset() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let queue = queue_with(&mut client, &["a", "b", "c"]).await;
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(pull(&mut client, &queue, 0).await, (pb::Code::Ok, ids(&["a", "b"]), 2));
    assert_eq!(pull(&mut client, &queue, 2).await, (pb::Code::Ok, ids(&["c"]), 3));
    assert_eq!(pull(&mut client, &queue, 3).await, (pb::Code::MessageNotFound, ids(&[]), 3));
    assert_eq!(pull(&mut client, &queue, 9).await, (pb::Code::IllegalOffset, ids(&[]), 3));
}

#[tokio::test]
async fn a_group_keeps_its_offset() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let queue = queue_with(&mut client, &["a", "b"]).await;
    let get = pb::GetOffsetRequest { group: resource("g"), message_queue: Some(queue.clone()) };
    let before = client.get_offset(request(get.clone())).await.expect("an answer").into_inner();
    assert_eq!(code(before.status), pb::Code::OffsetNotFound);
    let update = pb::UpdateOffsetRequest { group: resource("g"), message_queue: Some(queue), offset: 1 };
    let updated = client.update_offset(request(update)).await.expect("an answer").into_inner();
    assert_eq!(code(updated.status), pb::Code::Ok);
    let after = client.get_offset(request(get)).await.expect("an answer").into_inner();
    assert_eq!((code(after.status), after.offset), (pb::Code::Ok, 1));
}

/// Reads a queue from its beginning to its end, as a broadcasting consumer that stores its own offset.
async fn read_all(mut client: Client, queue: pb::MessageQueue, end: i64) -> Vec<String> {
    let (mut next, mut all) = (0, Vec::new());
    while next < end {
        let (status, ids, then) = pull(&mut client, &queue, next).await;
        assert_eq!(status, pb::Code::Ok);
        all.extend(ids);
        next = then;
    }
    all
}

#[tokio::test]
async fn consumers_that_store_their_own_offsets_each_read_all_messages() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let sent = ["a", "b", "c", "d", "e"];
    let queue = queue_with(&mut client, &sent).await;
    let end = query_end(&mut client, &queue).await;
    let (one, other) = tokio::join!(
        read_all(proxy.client().await, queue.clone(), end),
        read_all(proxy.client().await, queue.clone(), end)
    );
    assert_eq!((one, other), (sent.map(str::to_owned).to_vec(), sent.map(str::to_owned).to_vec()));
}
