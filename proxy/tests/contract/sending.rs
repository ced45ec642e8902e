//! Contract: sending messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use futures::future::join_all;
use rocketmq_thin_proxy::service::{
    BodyEncoding, Delay, Message, Permission, ServiceErrorKind, TopicConfig, TopicKind,
};

use crate::backend::Backend;
use crate::client::{Client, ids, plain};

pub(crate) async fn a_message_is_delivered_unchanged<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let message = Message {
        id: "01AB".to_owned(),
        tag: Some("red".to_owned()),
        keys: vec!["k1".to_owned(), "k2".to_owned()],
        properties: vec![("a".to_owned(), "1".to_owned()), ("ü".to_owned(), "ö \u{1F600}".to_owned())],
        body: vec![0, 159, 255, 10].into(),
        body_encoding: BodyEncoding::Gzip,
        born_at: Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
        born_host: "10.0.0.1:99".to_owned(),
        trace_context: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ..Message::default()
    };
    let sent = client.send(vec![message.clone()]).await;
    let mut deliveries = client.receive_all(1).await;
    let delivery = &mut deliveries[0];
    // Apache's brokers add this property.
    delivery.message.system_properties.retain(|(name, _)| name != "CLUSTER");
    assert_eq!(delivery.message, message);
    assert_eq!(delivery.topic, client.topic);
    assert_eq!((delivery.queue_id, delivery.queue_offset), (sent[0].queue_id, sent[0].queue_offset));
    assert_eq!(delivery.attempt, 1);
    assert!(delivery.stored_at <= delivery.received_at);
    assert!(delivery.coordinates.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "printable coordinates");
}

pub(crate) async fn offsets_of_a_queue_have_no_holes<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    let sends = (0..50).map(|id| client.send(vec![plain(id)]));
    let offsets: BTreeSet<_> = join_all(sends).await.into_iter().map(|sent| sent[0].queue_offset).collect();
    assert_eq!(offsets, (0..50).collect());
}

pub(crate) async fn a_batch_is_stored_in_order<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 4).await;
    let sent = client.send((0..20).map(|id| plain(format!("{id:02}"))).collect()).await;
    assert_eq!(sent.len(), 20);
    assert!(sent.windows(2).all(|pair| pair[1].queue_offset == pair[0].queue_offset + 1));
    let deliveries = client.receive_all(20).await;
    let expected: Vec<String> = (0..20).map(|id| format!("{id:02}")).collect();
    assert_eq!(ids(&deliveries), expected);
}

pub(crate) async fn single_messages_rotate_over_the_queues<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 4).await;
    let mut counts = BTreeMap::new();
    for id in 0..40 {
        *counts.entry(client.send(vec![plain(id)]).await[0].queue_id).or_insert(0) += 1;
    }
    assert_eq!(counts, (0..4).map(|queue| (queue, 10)).collect());
}

pub(crate) async fn concurrent_sends_are_all_stored<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let sends = (0..500).map(|id| client.send(vec![plain(id)]));
    let places: BTreeSet<_> =
        join_all(sends).await.into_iter().map(|sent| (sent[0].queue_id, sent[0].queue_offset)).collect();
    assert_eq!(places.len(), 500);
    let deliveries = client.receive_all(500).await;
    assert_eq!(ids(&deliveries).into_iter().collect::<BTreeSet<_>>().len(), 500);
    assert!(deliveries.iter().all(|d| places.contains(&(d.queue_id, d.queue_offset))));
}

pub(crate) async fn unsupported_message_types_are_refused<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let offered = client.services.metadata.capabilities();
    let kinds = [
        (offered.fifo, Message { group: Some("g".to_owned()), ..plain("fifo") }),
        (offered.transaction, Message { half: true, ..plain("transaction") }),
        (offered.priority, Message { priority: Some(3), ..plain("priority") }),
        (offered.lite, Message { lite_topic: Some("l".to_owned()), ..plain("lite") }),
    ];
    for (is_offered, message) in kinds {
        let kind = message.kind();
        match client.try_send(vec![message]).await {
            Ok(_) => assert!(is_offered, "{kind:?}"),
            Err(error) => {
                assert_eq!((is_offered, error.kind), (false, ServiceErrorKind::Unsupported), "{kind:?}")
            }
        }
    }
}

pub(crate) async fn a_message_may_combine_the_fields_of_several_types<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let message = Message {
        delay: Some(Delay::Until(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123))),
        group: Some("g".to_owned()),
        ..plain("id")
    };
    client.send(vec![message.clone()]).await;
    let delivered = client.receive_all(1).await.remove(0).message;
    assert_eq!(delivered.kind(), TopicKind::Delay);
    assert_eq!((delivered.delay, delivered.group), (message.delay, message.group));
}

pub(crate) async fn a_topic_without_write_permission_is_refused<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let permission = Permission { read: true, write: false };
    let config = TopicConfig { permission, ..client.topic_config(2) };
    client.services.metadata.create_topic(config, false).await.expect("a new topic");
    let error = client.try_send(vec![plain("id")]).await.expect_err("not writable");
    assert_eq!(error.kind, ServiceErrorKind::Forbidden);
}

pub(crate) async fn a_big_message_is_stored<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let body: Vec<u8> = (0..4 << 20).map(|n: u32| (n >> 7) as u8).collect();
    client.send(vec![Message { body: body.clone().into(), ..plain("big") }]).await;
    let deliveries = client.receive_all(1).await;
    assert!(deliveries[0].message.body == body, "the body has changed");
}
