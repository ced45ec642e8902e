//! ReceiveMessage and QueryAssignment.

use std::time::Duration;

use rocketmq_thin_proto::v2 as pb;

use crate::support::{
    Proxy, ack, code, duration, handle, is_empty, message, receive, receive_as, receive_request, request,
    resource, send, system,
};
use crate::telemetry::{consumer, open};

#[tokio::test]
async fn an_empty_receive_has_a_status_and_a_time() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let mut wanted = receive_request("t", "g");
    wanted.long_polling_timeout = duration(Duration::from_millis(50));
    let received = receive(&mut client, wanted).await;
    assert_eq!(received.parts, ["status", "time"]);
    assert_eq!(received.status.code(), pb::Code::MessageNotFound);
    assert_eq!(received.status.message, "no new message");
}

#[tokio::test]
async fn a_refused_receive_has_a_status_and_a_time_unless_the_client_id_is_missing() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let received = receive(&mut client, receive_request("a b", "g")).await;
    assert_eq!((received.parts, received.status.code()), (vec!["status", "time"], pb::Code::IllegalTopic));
    let received = receive_as(&mut client, tonic::Request::new(receive_request("t", "g"))).await;
    assert_eq!((received.parts, received.status.code()), (vec!["status"], pb::Code::ClientIdRequired));
}

#[tokio::test]
async fn a_waiting_receive_gets_a_message_that_is_sent_later() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let mut wanted = receive_request("t", "g");
    wanted.long_polling_timeout = duration(Duration::from_secs(20));
    let mut waiting = proxy.client().await;
    let waiting = tokio::spawn(async move { receive(&mut waiting, wanted).await });
    send(&mut client, vec![message("t", "late", "body")]).await;
    let received = waiting.await.expect("an answer");
    assert_eq!(system(&received.messages[0]).message_id, "late");
}

#[tokio::test]
async fn a_deadline_before_the_shortest_wait_is_refused() {
    let proxy = Proxy::configured(|config| config.limits.min_polling = Duration::from_secs(5)).await;
    let mut client = proxy.client().await;
    let mut hurried = request(receive_request("t", "g"));
    hurried.set_timeout(Duration::from_secs(3));
    let received = receive_as(&mut client, hurried).await;
    assert_eq!(received.status.code(), pb::Code::IllegalPollingTime);
}

#[tokio::test]
async fn a_cancelled_receive_takes_no_message() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "first", "body")]).await;
    receive(&mut client, receive_request("t", "g")).await;
    let mut cancelled = proxy.client().await;
    let abandoned = cancelled.receive_message(request(receive_request("t", "g")));
    // Cancelled before a message is there.
    assert!(tokio::time::timeout(Duration::from_millis(20), abandoned).await.is_err());
    send(&mut client, vec![message("t", "second", "body")]).await;
    let received = receive(&mut client, receive_request("t", "g")).await;
    assert_eq!(system(&received.messages[0]).message_id, "second");
    assert_eq!(system(&received.messages[0]).delivery_attempt, Some(1));
}

#[tokio::test]
async fn messages_that_a_client_did_not_read_are_given_back() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let body = "x".repeat(1 << 20);
    for id in 0..16 {
        send(&mut client, vec![message("t", &format!("m{id}"), &body)]).await;
    }
    let mut vanishing = proxy.client().await;
    let answer = vanishing.receive_message(request(receive_request("t", "g"))).await.expect("an answer");
    let mut stream = answer.into_inner();
    stream.message().await.expect("no failure").expect("a status");
    drop(stream);
    // The leases would last a minute, and the attempt does not count.
    let again = receive(&mut client, receive_request("t", "g")).await;
    assert_eq!(system(&again.messages[0]).delivery_attempt, Some(1));
}

#[tokio::test]
async fn a_lease_is_renewed_on_request_and_its_first_handle_stays_valid() {
    let proxy = Proxy::configured(|config| {
        config.limits.renewed_lease = Duration::from_millis(200);
        config.limits.renew_ahead = Duration::from_millis(150);
        config.limits.renew_every = Duration::from_millis(10);
    })
    .await;
    let mut client = proxy.client().await;
    let (commands, mut answers) = open(&mut client, "client").await;
    commands.send(consumer("g")).await.expect("sent");
    answers.message().await.expect("no failure").expect("an answer");
    send(&mut client, vec![message("t", "m", "body")]).await;
    let wanted = pb::ReceiveMessageRequest { auto_renew: true, ..receive_request("t", "g") };
    let first = handle(&receive(&mut client, wanted).await.messages[0]);

    // The wait is five times the first lease: without renewal, the message would be delivered again.
    let mut wanted = receive_request("t", "g");
    wanted.long_polling_timeout = duration(Duration::from_secs(1));
    assert!(receive(&mut client, wanted).await.messages.is_empty());
    assert_eq!(code(ack(&mut client, ["t", "g"], &[&first]).await.status), pb::Code::Ok);
    drop((commands, answers, client));
    let data = proxy.stop().await;
    let proxy = Proxy::in_directory(data, |_| {}).await;
    assert!(is_empty(&mut proxy.client().await, "t", "g").await);
}

#[tokio::test]
async fn renewed_leases_end_when_their_client_terminates() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let (commands, mut answers) = open(&mut client, "client").await;
    commands.send(consumer("g")).await.expect("sent");
    answers.message().await.expect("no failure").expect("an answer");
    send(&mut client, vec![message("t", "m", "body")]).await;
    let wanted = pb::ReceiveMessageRequest { auto_renew: true, ..receive_request("t", "g") };
    receive(&mut client, wanted).await;
    let bye = pb::NotifyClientTerminationRequest { group: resource("g") };
    client.notify_client_termination(request(bye)).await.expect("an answer");
    let again = receive(&mut client, receive_request("t", "g")).await;
    assert_eq!(system(&again.messages[0]).delivery_attempt, Some(2));
}

#[tokio::test]
async fn a_message_that_used_up_its_attempts_becomes_a_dead_letter() {
    let proxy = Proxy::configured(|config| {
        config.groups = vec![toml::from_str("name = 'g'\nmax_retries = 0").expect("a group")];
    })
    .await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "m", "body")]).await;
    let mut wanted = receive_request("t", "g");
    wanted.invisible_duration = duration(Duration::from_millis(1));
    assert_eq!(receive(&mut client, wanted).await.messages.len(), 1);
    // Either this receive moves the message, or the broker has already done so.
    assert!(is_empty(&mut client, "t", "g").await);
    let received = receive(&mut client, receive_request("%DLQ%g", "undertaker")).await;
    assert_eq!(system(&received.messages[0]).message_id, "m");
}

#[tokio::test]
async fn a_group_that_may_not_consume_is_refused() {
    let proxy = Proxy::configured(|config| {
        config.groups = vec![toml::from_str("name = 'g'\nconsume = false").expect("a group")];
    })
    .await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "m", "body")]).await;
    let received = receive(&mut client, receive_request("t", "g")).await;
    assert_eq!(received.status.code(), pb::Code::Forbidden);
    assert!(received.messages.is_empty());
}

#[tokio::test]
async fn assignments_name_the_queues_of_an_orderly_group_and_one_for_all_others() {
    let proxy = Proxy::configured(|config| {
        config.topics = vec![toml::from_str("name = 't'\ntype = 'fifo'\nqueues = 3").expect("a topic")];
        config.groups = vec![toml::from_str("name = 'ordered'\nfifo = true").expect("a group")];
    })
    .await;
    let mut client = proxy.client().await;
    for (group, ids) in [("ordered", vec![0, 1, 2]), ("plain", vec![-1])] {
        let query =
            pb::QueryAssignmentRequest { topic: resource("t"), group: resource(group), endpoints: None };
        let answer = client.query_assignment(request(query)).await.expect("an answer").into_inner();
        assert_eq!(code(answer.status), pb::Code::Ok);
        let queues = answer.assignments.into_iter().filter_map(|assignment| assignment.message_queue);
        assert_eq!(queues.map(|queue| queue.id).collect::<Vec<_>>(), ids, "{group}");
    }
}
