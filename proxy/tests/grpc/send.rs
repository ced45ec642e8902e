//! SendMessage.

use rocketmq_thin_proto::v2 as pb;

use crate::support::{
    Proxy, code, is_empty, message, receive, receive_request, request, resource, send, system,
};

#[tokio::test]
async fn every_message_of_a_request_gets_its_own_entry() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let ids = ["a", "b", "c"];
    let sent = send(&mut client, ids.map(|id| message("t", id, "body")).to_vec()).await;
    assert_eq!(code(sent.status), pb::Code::Ok);
    let entries: Vec<_> = sent.entries.iter().map(|entry| entry.message_id.as_str()).collect();
    assert_eq!(entries, ids);
    let received = receive(&mut client, receive_request("t", "g")).await;
    let mut received: Vec<_> =
        received.messages.iter().map(|message| system(message).message_id.as_str()).collect();
    received.sort_unstable();
    assert_eq!(received, ids);
}

#[tokio::test]
async fn one_invalid_message_prevents_the_others_from_being_stored() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let mut bad = message("t", "b", "body");
    bad.system_properties.get_or_insert_default().tag = Some("x|y".to_owned());
    let sent = send(&mut client, vec![message("t", "a", "body"), bad]).await;
    assert_eq!(code(sent.status), pb::Code::IllegalMessageTag);
    assert!(sent.entries.is_empty());
    assert!(is_empty(&mut client, "t", "g").await);
}

#[tokio::test]
async fn every_message_of_a_request_must_be_of_its_topics_type() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let mut later = message("t", "b", "body");
    later.system_properties.get_or_insert_default().delivery_timestamp =
        Some(prost_types::Timestamp::default());
    let sent = send(&mut client, vec![message("t", "a", "body"), later]).await;
    assert_eq!(code(sent.status), pb::Code::MessagePropertyConflictWithType);
    assert!(is_empty(&mut client, "t", "g").await);
}

#[tokio::test]
async fn an_invalid_time_is_refused_or_replaced_by_now() {
    const INVALID_TIME: prost_types::Timestamp = prost_types::Timestamp { seconds: 1 << 60, nanos: 0 };
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let mut late = message("t", "late", "body");
    late.system_properties.get_or_insert_default().delivery_timestamp = Some(INVALID_TIME);
    let sent = send(&mut client, vec![late]).await;
    assert_eq!(code(sent.status), pb::Code::IllegalDeliveryTime);

    let mut odd = message("t", "odd", "body");
    odd.system_properties.get_or_insert_default().born_timestamp = Some(INVALID_TIME);
    let sent = send(&mut client, vec![odd]).await;
    assert_eq!(code(sent.status), pb::Code::Ok);
    let received = receive(&mut client, receive_request("t", "g")).await;
    let properties = system(&received.messages[0]);
    let born = properties.born_timestamp.expect("a time").seconds;
    let stored = properties.store_timestamp.expect("a time").seconds;
    assert!((stored - 60..=stored).contains(&born), "{born} {stored}");
}

#[tokio::test]
async fn a_missing_client_id_is_refused_before_invalid_fields() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let anonymous = tonic::Request::new(pb::SendMessageRequest::default());
    let refused = client.send_message(anonymous).await.expect("an answer").into_inner();
    assert_eq!(code(refused.status), pb::Code::ClientIdRequired);
    let empty = request(pb::SendMessageRequest::default());
    let refused = client.send_message(empty).await.expect("an answer").into_inner();
    assert_eq!(code(refused.status), pb::Code::MessageCorrupted);
}

#[tokio::test]
async fn unknown_topics_are_created_only_if_configured() {
    let strict = Proxy::configured(|config| config.backend.embedded.auto_create_topics = false).await;
    let mut client = strict.client().await;
    let sent = send(&mut client, vec![message("t", "a", "body")]).await;
    assert_eq!(code(sent.status), pb::Code::MessagePropertyConflictWithType);
    let query = pb::QueryRouteRequest { topic: resource("t"), endpoints: None };
    let route = client.query_route(request(query.clone())).await.expect("an answer").into_inner();
    assert_eq!(code(route.status), pb::Code::TopicNotFound);

    let lenient = Proxy::start().await;
    let mut client = lenient.client().await;
    let route = client.query_route(request(query)).await.expect("an answer").into_inner();
    assert_eq!(code(route.status), pb::Code::Ok);
    assert!(!route.message_queues.is_empty());
}

#[tokio::test]
async fn a_message_is_delivered_as_it_was_sent() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let mut sent = message("t", "id", "hello");
    sent.user_properties.insert("größe".to_owned(), "ü".to_owned());
    sent.user_properties.insert("empty".to_owned(), String::new());
    let properties = sent.system_properties.get_or_insert_default();
    properties.tag = Some("red".to_owned());
    properties.keys = vec!["k1".to_owned(), "k2".to_owned()];
    properties.delivery_attempt = Some(9);
    properties.receipt_handle = Some("mine".to_owned());
    send(&mut client, vec![sent]).await;

    let received = receive(&mut client, receive_request("t", "g")).await;
    assert_eq!(received.parts, ["status", "message", "time"]);
    let message = &received.messages[0];
    assert_eq!(message.body.as_ref(), b"hello");
    assert_eq!(message.user_properties.len(), 1);
    assert_eq!(message.user_properties["größe"], "ü");
    let properties = system(message);
    assert_eq!(properties.tag.as_deref(), Some("red"));
    assert_eq!(properties.keys, ["k1", "k2"]);
    assert_eq!(properties.delivery_attempt, Some(1));
    assert_ne!(properties.receipt_handle.as_deref(), Some("mine"));
    let digest = properties.body_digest.as_ref().expect("a digest");
    assert_eq!(digest.checksum, "5D41402ABC4B2A76B9719D911017C592");
    assert!(properties.born_host.starts_with("127.0.0.1:"), "{}", properties.born_host);
}

#[tokio::test]
async fn the_largest_body_passes_and_a_byte_more_does_not() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let largest = "x".repeat(4 << 20);
    let sent = send(&mut client, vec![message("t", "a", &largest)]).await;
    assert_eq!(code(sent.status), pb::Code::Ok);
    let sent = send(&mut client, vec![message("t", "a", &(largest + "x"))]).await;
    assert_eq!(code(sent.status), pb::Code::MessageBodyTooLarge);
    let received = receive(&mut client, receive_request("t", "g")).await;
    assert_eq!(received.messages[0].body.len(), 4 << 20);
}
