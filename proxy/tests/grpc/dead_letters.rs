//! Dead letters: listing, reading and resending them.

use std::time::Duration;

use rocketmq_thin_proto::v2 as pb;

use crate::admin::{run, text};
use crate::inspect::{ids, json, send_keyed};
use crate::support::{
    Client, Proxy, code, duration, handle, is_empty, message, receive, receive_request, request, resource,
    send, system,
};

/// Moves every message of the topic to the dead letters of the group.
async fn fail_all(client: &mut Client, topic: &str, group: &str) {
    for message in receive(client, receive_request(topic, group)).await.messages {
        let forward = pb::ForwardMessageToDeadLetterQueueRequest {
            group: resource(group),
            topic: resource(topic),
            receipt_handle: handle(&message),
            message_id: system(&message).message_id.clone(),
            delivery_attempt: 1,
            max_delivery_attempts: 1,
            ..Default::default()
        };
        let answer = client.forward_message_to_dead_letter_queue(request(forward)).await.expect("an answer");
        assert_eq!(code(answer.into_inner().status), pb::Code::Ok);
    }
}

async fn with_dead_letters(count: usize) -> (Proxy, Client) {
    let proxy = Proxy::configured(|config| config.backend.embedded.default_queues = 1).await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", count).await;
    fail_all(&mut client, "t", "g").await;
    (proxy, client)
}

async fn received(client: &mut Client) -> Vec<String> {
    let long_polling_timeout = duration(Duration::from_secs(20));
    let wanted = pb::ReceiveMessageRequest { long_polling_timeout, ..receive_request("t", "g") };
    let received = receive(client, wanted).await;
    received.messages.iter().map(|message| system(message).message_id.clone()).collect()
}

#[tokio::test]
async fn dead_letters_are_listed_and_found() {
    let (proxy, _client) = with_dead_letters(4).await;
    let list = json(&proxy, &["dlq", "list"]).await;
    assert_eq!([&list[0]["dead_letters"], &list[0]["not_resent"]], [4, 4]);
    let peeked = json(&proxy, &["dlq", "peek", "g", "--newest", "--count", "1"]).await;
    assert_eq!(ids(&peeked), ["m3"]);
    assert_eq!(peeked["messages"][0]["origin"]["topic"], "t");
    assert_eq!(ids(&json(&proxy, &["dlq", "find", "g", "--key", "k1"]).await), ["m1"]);
    let none = run(&proxy, &["dlq", "resend", "healthy", "--all"], "").await;
    assert!(text(&none.stderr).contains("no dead letters"), "{}", text(&none.stderr));
}

#[tokio::test]
async fn each_dead_letter_is_sent_again_once() {
    let (proxy, mut client) = with_dead_letters(5).await;
    let resent = json(&proxy, &["dlq", "resend", "g", "--all", "--count", "2"]).await;
    let sent: Vec<_> =
        resent["letters"].as_array().expect("letters").iter().map(|letter| &letter["id"]).collect();
    assert_eq!(sent, ["m0", "m1"]);
    assert_eq!(received(&mut client).await, ["m0", "m1"]);
    assert_eq!(json(&proxy, &["dlq", "list", "g"]).await[0]["not_resent"], 3);
    // The progress survives a restart.
    let proxy = Proxy::in_directory(proxy.stop().await, |_| {}).await;
    let mut client = proxy.client().await;
    let rest = run(&proxy, &["dlq", "resend", "g", "--all"], "").await;
    assert!(rest.status.success(), "{}", text(&rest.stderr));
    assert!(text(&rest.stdout).ends_with("3 dead letters were resent\n"), "{}", text(&rest.stdout));
    assert_eq!(received(&mut client).await, ["m2", "m3", "m4"]);
    let nothing = run(&proxy, &["dlq", "resend", "g", "--all"], "").await;
    assert!(text(&nothing.stdout).contains("0 dead letters"), "{}", text(&nothing.stdout));
    // They can still be read.
    assert_eq!(ids(&json(&proxy, &["dlq", "peek", "g"]).await).len(), 5);
}

#[tokio::test]
async fn a_dead_letter_is_sent_again_by_its_id() {
    let (proxy, mut client) = with_dead_letters(5).await;
    let resent = json(&proxy, &["dlq", "resend", "g", "--id", "m3"]).await;
    assert_eq!((&resent["letters"][0]["id"], &resent["letters"][0]["topic"]), (&"m3".into(), &"t".into()));
    assert_eq!(received(&mut client).await, ["m3"]);
    // Again on request, and not with the others.
    json(&proxy, &["dlq", "resend", "g", "--id", "m3"]).await;
    assert_eq!(received(&mut client).await, ["m3"]);
    json(&proxy, &["dlq", "resend", "g", "--all"]).await;
    assert_eq!(received(&mut client).await, ["m0", "m1", "m2", "m4"]);
    let absent = run(&proxy, &["dlq", "resend", "g", "--id", "m9"], "").await;
    assert!(text(&absent.stderr).contains("no dead letter m9"), "{}", text(&absent.stderr));
}

#[tokio::test]
async fn a_dead_letter_whose_topic_is_gone_stays() {
    let (proxy, mut client) = with_dead_letters(2).await;
    assert!(run(&proxy, &["topic", "delete", "t"], "").await.status.success());
    let refused = run(&proxy, &["dlq", "resend", "g", "--all"], "").await;
    assert!(!refused.status.success());
    assert!(
        text(&refused.stdout).contains("not resent: topic t does not exist any more"),
        "{}",
        text(&refused.stdout)
    );
    assert_eq!(json(&proxy, &["dlq", "list"]).await[0]["not_resent"], 2);
    assert!(is_empty(&mut client, "t", "g").await, "nothing was sent");
}

#[tokio::test]
async fn a_committed_transaction_is_sent_again_as_a_message() {
    let proxy = Proxy::configured(|config| config.backend.embedded.default_queues = 1).await;
    let mut client = proxy.client().await;
    let create = ["topic", "create", "t", "--type", "transaction", "--queues", "1"];
    assert!(run(&proxy, &create, "").await.status.success());
    let mut half = message("t", "m", "body");
    half.system_properties.as_mut().expect("properties").message_type = pb::MessageType::Transaction.into();
    let sent = send(&mut client, vec![half]).await;
    let commit = pb::EndTransactionRequest {
        topic: resource("t"),
        message_id: "m".to_owned(),
        transaction_id: sent.entries[0].transaction_id.clone(),
        resolution: pb::TransactionResolution::Commit.into(),
        ..Default::default()
    };
    let committed = client.end_transaction(request(commit)).await.expect("an answer").into_inner();
    assert_eq!(code(committed.status), pb::Code::Ok);
    fail_all(&mut client, "t", "g").await;
    let resent = json(&proxy, &["dlq", "resend", "g", "--all"]).await;
    assert_eq!(resent["letters"][0]["id"], "m");
    assert_eq!(received(&mut client).await, ["m"]);
}

#[tokio::test]
async fn attempts_of_the_failed_group_do_not_count_for_a_reader_of_dead_letters() {
    let (proxy, mut client) = with_dead_letters(1).await;
    let create = ["group", "create", "reader", "--max-retries", "0"];
    assert!(run(&proxy, &create, "").await.status.success());
    let letters = receive(&mut client, receive_request("%DLQ%g", "reader")).await.messages;
    assert_eq!(letters.len(), 1);
    assert_eq!(system(&letters[0]).delivery_attempt, Some(2));
}
