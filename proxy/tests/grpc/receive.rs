use std::time::Duration;

use rocketmq_thin_proto::v2 as pb;

use crate::support::{
    Proxy, code, duration, message, receive, receive_as, receive_request, request, send, system,
};

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
async fn a_refused_receive_has_a_status_and_a_time_but_for_a_missing_client_id() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    let received = receive(&mut client, receive_request("a b", "g")).await;
    assert_eq!((received.parts, received.status.code()), (vec!["status", "time"], pb::Code::IllegalTopic));
    let received = receive_as(&mut client, tonic::Request::new(receive_request("t", "g"))).await;
    assert_eq!((received.parts, received.status.code()), (vec!["status"], pb::Code::ClientIdRequired));
}

#[tokio::test]
async fn a_waiting_receive_gets_a_message_that_comes_later() {
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
async fn the_clients_deadline_must_leave_time_to_wait() {
    let proxy = Proxy::configured(|config| config.limits.min_polling = Duration::from_secs(5)).await;
    let mut client = proxy.client().await;
    let mut hurried = request(receive_request("t", "g"));
    hurried.set_timeout(Duration::from_secs(3));
    let received = receive_as(&mut client, hurried).await;
    assert_eq!(received.status.code(), pb::Code::IllegalPollingTime);
}

#[tokio::test]
async fn a_cancelled_receive_takes_nothing() {
    let proxy = Proxy::start().await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "first", "body")]).await;
    receive(&mut client, receive_request("t", "g")).await;
    let mut cancelled = proxy.client().await;
    let abandoned = cancelled.receive_message(request(receive_request("t", "g")));
    // Given up before anything comes.
    assert!(tokio::time::timeout(Duration::from_millis(20), abandoned).await.is_err());
    send(&mut client, vec![message("t", "second", "body")]).await;
    let received = receive(&mut client, receive_request("t", "g")).await;
    assert_eq!(system(&received.messages[0]).message_id, "second");
    assert_eq!(system(&received.messages[0]).delivery_attempt, Some(1));
}

#[tokio::test]
async fn a_group_that_used_up_its_deliveries_has_a_dead_letter() {
    let proxy = Proxy::configured(|config| {
        config.groups = vec![toml::from_str("name = 'g'\nmax_retries = 0").expect("a group")];
    })
    .await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "m", "body")]).await;
    let mut wanted = receive_request("t", "g");
    wanted.invisible_duration = duration(Duration::from_millis(1));
    assert_eq!(receive(&mut client, wanted).await.messages.len(), 1);
    let received = receive(&mut client, receive_request("t", "g")).await;
    assert_eq!(received.status.message, "no match message");
    let received = receive(&mut client, receive_request("%DLQ%g", "undertaker")).await;
    assert_eq!(system(&received.messages[0]).message_id, "m");
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
        let query = pb::QueryAssignmentRequest {
            topic: crate::support::resource("t"),
            group: crate::support::resource(group),
            endpoints: None,
        };
        let answer = client.query_assignment(request(query)).await.expect("an answer").into_inner();
        assert_eq!(code(answer.status), pb::Code::Ok);
        let queues = answer.assignments.into_iter().filter_map(|assignment| assignment.message_queue);
        assert_eq!(queues.map(|queue| queue.id).collect::<Vec<_>>(), ids, "{group}");
    }
}
