//! AckMessage, ChangeInvisibleDuration and ForwardMessageToDeadLetterQueue.

use std::time::Duration;

use rocketmq_thin_proto::v2 as pb;

use crate::support::{
    Client, Proxy, ack, code, duration, handle, is_empty, message, receive, receive_request, request,
    resource, send, system,
};

async fn change(client: &mut Client, handle: &str, to: Duration) -> pb::ChangeInvisibleDurationResponse {
    let change = pb::ChangeInvisibleDurationRequest {
        group: resource("g"),
        topic: resource("t"),
        receipt_handle: handle.to_owned(),
        invisible_duration: duration(to),
        message_id: "m".to_owned(),
        ..Default::default()
    };
    client.change_invisible_duration(request(change)).await.expect("an answer").into_inner()
}

async fn one_received(client: &mut Client) -> pb::Message {
    receive(client, receive_request("t", "g")).await.messages.pop().expect("a message")
}

#[tokio::test]
async fn an_acknowledged_message_is_not_delivered_again_even_after_a_restart() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "m", "body")]).await;
    let handle = handle(&one_received(&mut client).await);
    assert_eq!(code(ack(&mut client, ["t", "g"], &[&handle]).await.status), pb::Code::Ok);
    drop(client);
    let data = proxy.stop().await;

    let proxy = Proxy::in_directory(data, |_| {}).await;
    let mut client = proxy.client().await;
    assert!(is_empty(&mut client, "t", "g").await);
    // The new process can open the old handles, because the key is in the data directory.
    assert_eq!(code(ack(&mut client, ["t", "g"], &[&handle]).await.status), pb::Code::Ok);
}

#[tokio::test]
async fn an_expired_lease_is_delivered_again_and_its_handle_is_invalid() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "m", "body")]).await;
    let mut short = receive_request("t", "g");
    short.invisible_duration = duration(Duration::from_millis(1));
    let first = receive(&mut client, short).await.messages.pop().expect("a message");
    let second = one_received(&mut client).await;
    assert_eq!(system(&second).delivery_attempt, Some(2));
    assert_eq!(
        code(ack(&mut client, ["t", "g"], &[&handle(&first)]).await.status),
        pb::Code::InvalidReceiptHandle
    );
    assert_eq!(code(ack(&mut client, ["t", "g"], &[&handle(&second)]).await.status), pb::Code::Ok);
}

#[tokio::test]
async fn a_changed_lease_has_a_new_handle() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "m", "body")]).await;
    let first = handle(&one_received(&mut client).await);
    let changed = change(&mut client, &first, Duration::from_secs(600)).await;
    assert_eq!(code(changed.status), pb::Code::Ok);
    assert_ne!(changed.receipt_handle, first);
    // A client that never sent settings may also give back a message.
    let changed = change(&mut client, &changed.receipt_handle, Duration::ZERO).await;
    assert_eq!(code(changed.status), pb::Code::Ok);
    assert_eq!(system(&one_received(&mut client).await).delivery_attempt, Some(2));
}

#[tokio::test]
async fn a_forged_handle_settles_nothing() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "m", "body")]).await;
    let good = handle(&one_received(&mut client).await);
    let forged = good.replace('.', "0");
    let acked = ack(&mut client, ["t", "g"], &[&good, "", "junk", &forged]).await;
    assert_eq!(code(acked.status), pb::Code::MultipleResults);
    let codes: Vec<_> = acked.entries.into_iter().map(|entry| code(entry.status)).collect();
    let invalid = pb::Code::InvalidReceiptHandle;
    assert_eq!(codes, [pb::Code::Ok, invalid, invalid, invalid]);
    assert_eq!(code(change(&mut client, "junk", Duration::ZERO).await.status), invalid);
}

#[tokio::test]
async fn a_handle_settles_nothing_under_another_topic_or_group_and_says_so() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "m", "body")]).await;
    let first = handle(&one_received(&mut client).await);
    for scope in [["t", "other"], ["other", "g"]] {
        let acked = ack(&mut client, scope, &[&first]).await;
        assert_eq!(code(acked.status), pb::Code::InvalidReceiptHandle, "{scope:?}");
    }
    assert_eq!(code(change(&mut client, &first, Duration::ZERO).await.status), pb::Code::Ok);
    assert_eq!(system(&one_received(&mut client).await).message_id, "m");
}

#[tokio::test]
async fn a_forwarded_message_is_a_dead_letter_and_gone_from_its_group() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "m", "body")]).await;
    let forward = pb::ForwardMessageToDeadLetterQueueRequest {
        group: resource("g"),
        topic: resource("t"),
        receipt_handle: handle(&one_received(&mut client).await),
        message_id: "m".to_owned(),
        ..Default::default()
    };
    let forwarded = client.forward_message_to_dead_letter_queue(request(forward)).await;
    assert_eq!(code(forwarded.expect("an answer").into_inner().status), pb::Code::Ok);
    let letters = receive(&mut client, receive_request("%DLQ%g", "undertaker")).await;
    assert_eq!(system(&letters.messages[0]).message_id, "m");
    assert!(is_empty(&mut client, "t", "g").await);
}
