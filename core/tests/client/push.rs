//! The push consumer.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rocketmq_thin::{ConsumeResult, ErrorKind, PushConsumer, PushConsumerOptions, Status};
use rocketmq_thin_proto::v2::{self, Code, settings::PubSub, telemetry_command::Command};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    client,
    ordered_group::{group_settings, of_group},
    server::{Script, TestServer, acked, message, topic},
};

type Received = (Code, &'static str, Vec<v2::Message>);

const NOTHING: fn() -> Received = || (Code::MessageNotFound, "no new message", Vec::new());

/// A server that returns these messages for the first receive. Later receives don't end.
fn with_messages(messages: Vec<v2::Message>) -> Script {
    let hung = AtomicUsize::new(0);
    Script {
        receive: Box::new(move |_, _| (Code::Ok, "OK", messages.clone())),
        hang: Box::new(move |_| hung.fetch_add(1, Ordering::SeqCst) > 0),
        ..Script::default()
    }
}

async fn consumer(server: &TestServer, options: PushConsumerOptions) -> PushConsumer {
    client(server).await.push_consumer(options).await.unwrap()
}

fn options() -> PushConsumerOptions {
    PushConsumerOptions::new("g", ["t"])
}

/// Waits until this many entries were acked, in however many requests.
pub(crate) async fn wait_for_acks(server: &TestServer, count: usize) -> Vec<String> {
    for requests in 1.. {
        server.seen.wait("ack", requests).await;
        let requests = server.seen.acked.lock().unwrap().clone();
        let acked: Vec<String> =
            requests.iter().flat_map(|it| &it.entries).map(|entry| entry.message_id.clone()).collect();
        if acked.len() >= count {
            return acked;
        }
    }
    unreachable!("the loop has no end");
}

#[tokio::test]
async fn every_message_of_every_topic_is_handled_and_acked() {
    let seen = Mutex::new(HashMap::<String, usize>::new());
    let receive = move |request: &v2::ReceiveMessageRequest, _: usize| {
        let mut seen = seen.lock().unwrap();
        let before = seen.entry(topic(request).to_owned()).or_default();
        *before += 1;
        if *before > 2 {
            return NOTHING();
        }
        let id = |number| format!("{}{before}{number}", topic(request));
        (Code::Ok, "OK", vec![message(&id(0), "x"), message(&id(1), "x")])
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let consumer = consumer(&server, PushConsumerOptions::new("g", ["a", "b"])).await;
    consumer.start(|_| async { ConsumeResult::Ack }).unwrap();
    let acked: HashSet<_> = wait_for_acks(&server, 8).await.into_iter().collect();
    assert_eq!(acked.len(), 8);
    let settings = server.seen.settings.lock().unwrap()[0].clone();
    assert_eq!((settings.client_type(), settings.backoff_policy), (v2::ClientType::PushConsumer, None));
    let request = server.seen.received.lock().unwrap()[0].clone();
    assert!(!request.auto_renew);
    assert_eq!(request.invisible_duration.unwrap().seconds, 60);
}

#[tokio::test]
async fn a_slow_handler_and_a_panic_do_not_affect_other_messages() {
    let messages = (0..8).map(|id| message(&id.to_string(), "x")).collect();
    let server = TestServer::start(with_messages(messages));
    let consumer = consumer(&server, options().concurrency(2)).await;
    consumer
        .start(|delivery| async move {
            match delivery.message_id.as_str() {
                "0" => std::future::pending().await,
                "1" => panic!("no luck"),
                _ => ConsumeResult::Ack,
            }
        })
        .unwrap();
    let acked: HashSet<_> = wait_for_acks(&server, 6).await.into_iter().collect();
    assert!(!acked.contains("0") && !acked.contains("1"));
    // A panic is a failure. The group's retry policy has 1 s after the first failure.
    server.seen.wait("change_invisible", 1).await;
    let changed = server.seen.changed.lock().unwrap()[0].clone();
    assert_eq!((changed.message_id.as_str(), changed.invisible_duration.unwrap().seconds), ("1", 1));
}

#[tokio::test]
async fn the_result_of_the_handler_decides() {
    let messages = ["retry", "later", "dead", "done"].map(|id| message(id, "x")).to_vec();
    let script =
        Script { group_settings: group_settings(false, &[7000, 9000], 16), ..with_messages(messages) };
    let server = TestServer::start(script);
    let consumer = consumer(&server, options()).await;
    consumer
        .start(|delivery| async move {
            match delivery.message_id.as_str() {
                "retry" => ConsumeResult::Retry,
                "later" => ConsumeResult::RetryAfter(Duration::from_secs(42)),
                "dead" => ConsumeResult::DeadLetter,
                _ => ConsumeResult::Ack,
            }
        })
        .unwrap();
    assert_eq!(wait_for_acks(&server, 1).await, ["done"]);
    server.seen.wait("forward", 1).await;
    server.seen.wait("change_invisible", 2).await;
    let changed: HashMap<_, _> = server
        .seen
        .changed
        .lock()
        .unwrap()
        .iter()
        .map(|it| (it.message_id.clone(), (it.invisible_duration.unwrap().seconds, it.suspend)))
        .collect();
    assert_eq!(changed, [("retry".into(), (7, None)), ("later".into(), (42, None))].into());
    let forwarded = server.seen.forwarded.lock().unwrap()[0].clone();
    assert_eq!((forwarded.message_id.as_str(), forwarded.max_delivery_attempts), ("dead", 16));
}

#[tokio::test]
async fn messages_of_a_group_are_handled_one_after_the_other() {
    let messages = (0..20)
        .map(|at| of_group(message(&at.to_string(), "x"), if at % 2 == 0 { "even" } else { "odd" }))
        .collect();
    let script = Script { group_settings: group_settings(true, &[1], 3), ..with_messages(messages) };
    let server = TestServer::start(script);
    let consumer = consumer(&server, options()).await;
    let running: Arc<[AtomicUsize; 2]> = Arc::default();
    consumer
        .start(move |delivery| {
            let running = running.clone();
            async move {
                let of = &running[delivery.message_id.parse::<usize>().unwrap() % 2];
                assert_eq!(of.fetch_add(1, Ordering::SeqCst), 0, "two of a group at a time");
                tokio::task::yield_now().await;
                of.fetch_sub(1, Ordering::SeqCst);
                ConsumeResult::Ack
            }
        })
        .unwrap();
    let acked = wait_for_acks(&server, 20).await;
    for rest in 0..2 {
        let of = acked.iter().map(|id| id.parse::<usize>().unwrap()).filter(|at| at % 2 == rest);
        assert!(of.is_sorted(), "{acked:?}");
    }
}

#[tokio::test]
async fn a_failing_ordered_message_is_retried_by_the_client_and_forwarded_before_its_group_continues() {
    let messages = ["poison", "next", "other"];
    let groups = ["a", "a", "b"];
    let messages = messages.iter().zip(groups).map(|(id, group)| of_group(message(id, "x"), group)).collect();
    let forward = |_: &_, before: usize| if before == 0 { Code::InternalServerError } else { Code::Ok };
    let script = Script {
        group_settings: group_settings(true, &[1, 2], 3),
        forward: Box::new(forward),
        ..with_messages(messages)
    };
    let server = TestServer::start(script);
    let consumer = consumer(&server, options()).await;
    let (calls, mut called) = mpsc::unbounded_channel();
    consumer
        .start(move |delivery| {
            calls.send((delivery.message_id.clone(), delivery.attempt)).unwrap();
            async move {
                if delivery.message_id == "poison" { ConsumeResult::Retry } else { ConsumeResult::Ack }
            }
        })
        .unwrap();
    let mut of_group_a = Vec::new();
    while of_group_a.len() < 4 {
        let (id, attempt) = called.recv().await.unwrap();
        if id != "other" {
            of_group_a.push((id, attempt));
        }
    }
    assert_eq!(
        of_group_a,
        [("poison".into(), 1), ("poison".into(), 2), ("poison".into(), 3), ("next".into(), 1)]
    );
    let forwarded = server.seen.forwarded.lock().unwrap().clone();
    assert_eq!(forwarded.len(), 2, "the first one failed");
    assert_eq!((forwarded[1].delivery_attempt, forwarded[1].max_delivery_attempts), (3, 3));
    assert_eq!(server.seen.counted("change_invisible"), 0);
}

#[tokio::test]
async fn a_poll_requests_only_what_fits_and_continues_when_there_is_room() {
    let receive = |request: &v2::ReceiveMessageRequest, before: usize| {
        let id = |at| format!("{before}-{at}");
        (Code::Ok, "OK", (0..request.batch_size).map(|at| message(&id(at), "x")).collect())
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let consumer = consumer(&server, options().max_cached_messages(5).concurrency(50)).await;
    let permits = Arc::new(Semaphore::new(0));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler_permits = permits.clone();
    let handler_most = most.clone();
    consumer
        .start(move |_| {
            let (permits, running, most) = (handler_permits.clone(), running.clone(), handler_most.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                permits.acquire().await.unwrap().forget();
                running.fetch_sub(1, Ordering::SeqCst);
                ConsumeResult::Ack
            }
        })
        .unwrap();
    permits.add_permits(20);
    wait_for_acks(&server, 20).await;
    assert!(most.load(Ordering::SeqCst) <= 5);
    assert!(server.seen.received.lock().unwrap().iter().all(|request| request.batch_size <= 5));
}

#[tokio::test]
async fn the_lease_of_a_message_is_renewed_while_its_handler_runs() {
    let server = TestServer::start(with_messages(vec![message("1", "x")]));
    let options = options().invisible_duration(Duration::from_secs(1));
    let consumer = consumer(&server, options).await;
    let release = Arc::new(Semaphore::new(0));
    let held = release.clone();
    consumer
        .start(move |_| {
            let held = held.clone();
            async move {
                held.acquire().await.unwrap().forget();
                ConsumeResult::Ack
            }
        })
        .unwrap();
    server.seen.wait("change_invisible", 3).await;
    release.add_permits(1);
    wait_for_acks(&server, 1).await;
    let handle = server.seen.acked.lock().unwrap()[0].entries[0].receipt_handle.clone();
    assert!(handle.starts_with("new new new handle of 1"), "{handle}");
}

#[tokio::test]
async fn a_result_that_comes_after_the_lease_is_lost_is_dropped() {
    let script = Script {
        change: Box::new(|_, _| Box::pin(async { Code::InvalidReceiptHandle })),
        ..with_messages(vec![message("1", "x")])
    };
    let server = TestServer::start(script);
    let consumer = consumer(&server, options().invisible_duration(Duration::from_secs(1))).await;
    let task = consumer.next_tasks(1).await.unwrap().remove(0);
    while !task.delivery.is_lease_lost() {
        tokio::task::yield_now().await;
    }
    task.complete(ConsumeResult::Ack);
    let report = consumer.close(Duration::from_secs(5)).await;
    assert_eq!((report.handled, report.abandoned, server.seen.counted("ack")), (0, 0, 0));
}

#[tokio::test]
async fn settings_that_the_server_changes_take_effect() {
    let group_settings = |settings: &v2::Settings, before: usize| {
        let mut settings = settings.clone();
        if let Some(PubSub::Subscription(subscription)) = &mut settings.pub_sub {
            subscription.receive_batch_size = Some(if before == 0 { 5 } else { 7 });
        }
        settings
    };
    let script = Script { group_settings: Box::new(group_settings), ..Script::default() };
    let server = TestServer::start(script);
    let consumer = consumer(&server, options()).await;
    consumer.start(|_| async { ConsumeResult::Ack }).unwrap();
    let batch_size = || server.seen.received.lock().unwrap().last().unwrap().batch_size;
    server.seen.wait("receive", 2).await;
    assert_eq!(batch_size(), 5);
    server.seen.drop_streams();
    for receives in 3.. {
        server.seen.wait("receive", receives).await;
        if batch_size() == 7 {
            break;
        }
    }
}

#[tokio::test]
async fn a_failed_ack_is_retried() {
    let ack = |request: &_, before: usize| {
        acked(request, |_| if before < 2 { Code::InternalServerError } else { Code::Ok })
    };
    let script = Script { ack: Box::new(ack), ..with_messages(vec![message("1", "x")]) };
    let server = TestServer::start(script);
    let consumer = consumer(&server, options()).await;
    consumer.start(|_| async { ConsumeResult::Ack }).unwrap();
    server.seen.wait("ack", 3).await;
    let report = consumer.close(Duration::from_secs(5)).await;
    assert_eq!(report.abandoned, 0);
}

#[tokio::test]
async fn tasks_are_pulled_and_completed_from_any_thread() {
    let messages = (0..4).map(|id| message(&id.to_string(), "x")).collect();
    let server = TestServer::start(with_messages(messages));
    let consumer = consumer(&server, options().concurrency(3)).await;
    let mut tasks = consumer.next_tasks(2).await.unwrap();
    assert_eq!(tasks.len(), 2);
    tasks.extend(consumer.next_tasks(9).await.unwrap());
    assert_eq!(tasks.len(), 3, "no more at a time than the concurrency");
    // A dropped task counts as a failure.
    drop(tasks.pop());
    let complete = move || tasks.into_iter().for_each(|task| task.complete(ConsumeResult::Ack));
    std::thread::spawn(complete).join().unwrap();
    server.seen.wait("change_invisible", 1).await;
    let last = consumer.next_tasks(9).await.unwrap();
    assert_eq!(last[0].delivery.message_id, "3");
    wait_for_acks(&server, 2).await;
    assert_eq!(
        consumer.start(|_| async { ConsumeResult::Ack }).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    drop(last);
    consumer.close(Duration::from_secs(5)).await;
    assert!(consumer.next_tasks(9).await.is_none());
    assert_eq!(consumer.start(|_| async { ConsumeResult::Ack }).unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_close_lets_handlers_finish_and_gives_back_waiting_messages() {
    let messages = (0..5).map(|id| message(&id.to_string(), "x")).collect();
    let server = TestServer::start(with_messages(messages));
    let consumer = consumer(&server, options().concurrency(2)).await;
    let mut tasks = consumer.next_tasks(2).await.unwrap();
    let closing = consumer.clone();
    let close = tokio::spawn(async move { closing.close(Duration::from_secs(20)).await });
    server.seen.wait("change_invisible", 3).await;
    assert!(consumer.next_tasks(1).await.is_none());
    tasks.remove(0).complete(ConsumeResult::Ack);
    drop(tasks);
    let report = close.await.unwrap();
    assert_eq!((report.handled, report.given_back, report.abandoned), (2, 3, 0));
    let changed = server.seen.changed.lock().unwrap().clone();
    let given_back: HashSet<_> =
        changed.iter().filter(|it| it.suspend == Some(true)).map(|it| it.message_id.as_str()).collect();
    assert_eq!(given_back, ["2", "3", "4"].into());
    assert_eq!(server.seen.counted("termination"), 1);
}

#[tokio::test]
async fn a_handler_that_runs_longer_than_the_close_is_abandoned() {
    let server = TestServer::start(with_messages(vec![message("1", "x")]));
    let client = client(&server).await;
    let consumer = client.push_consumer(options()).await.unwrap();
    let tasks = consumer.next_tasks(1).await.unwrap();
    let report = consumer.close(Duration::from_millis(100)).await;
    assert_eq!((report.handled, report.given_back, report.abandoned), (0, 0, 1));
    assert_eq!(server.seen.counted("termination"), 1, "the server is told all the same");
    assert_eq!(client.health().status, Status::Connected, "the time that was up was ours");
    drop(tasks);
    // A second close does not wait, and the close of the client adds nothing to its report.
    consumer.close(Duration::from_secs(3600)).await;
    let report = client.close(Duration::from_secs(3600)).await;
    assert_eq!((report.handled, report.abandoned), (0, 0));
}

#[tokio::test]
async fn a_dropped_consumer_ends_its_polls() {
    let script = Script { hang: Box::new(|_| true), ..Script::default() };
    let server = TestServer::start(script);
    let client = client(&server).await;
    let consumer = client.push_consumer(options()).await.unwrap();
    consumer.start(|_| async { ConsumeResult::Ack }).unwrap();
    server.seen.wait("receive", 1).await;
    drop(consumer);
    server.seen.wait("poll ended", 1).await;
    server.seen.wait("stream ended", 1).await;
}

#[tokio::test]
async fn a_paused_consumer_hands_out_no_messages() {
    let server = TestServer::start(with_messages(vec![message("1", "x")]));
    let consumer = consumer(&server, options()).await;
    consumer.pause();
    assert!(consumer.is_paused());
    {
        let next = consumer.next_tasks(1);
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending());
    }
    assert_eq!(server.seen.counted("receive"), 0);
    consumer.resume();
    assert_eq!(consumer.next_tasks(1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_failing_topic_does_not_delay_another() {
    let receive = |request: &v2::ReceiveMessageRequest, before: usize| match topic(request) {
        "bad" => (Code::Forbidden, "no", Vec::new()),
        _ => (Code::Ok, "OK", vec![message(&before.to_string(), "x")]),
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let consumer = consumer(&server, PushConsumerOptions::new("g", ["bad", "good"])).await;
    consumer.start(|_| async { ConsumeResult::Ack }).unwrap();
    wait_for_acks(&server, 20).await;
    server.seen.wait("receive", 20).await;
    consumer.close(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_refused_receive_shows_in_the_health_until_it_works() {
    let receive = |_: &v2::ReceiveMessageRequest, before: usize| match before {
        0..3 => (Code::IllegalInvisibleTime, "too short", Vec::new()),
        _ => (Code::Ok, "OK", vec![message("1", "x")]),
    };
    let server = TestServer::start(Script { receive: Box::new(receive), ..Script::default() });
    let client = client(&server).await;
    let consumer = client.push_consumer(options()).await.unwrap();
    let mut changes = client.status_changes();
    assert_eq!(changes.next().await.unwrap().status, Status::Connected);
    consumer.start(|_| async { ConsumeResult::Ack }).unwrap();
    let degraded = changes.next().await.unwrap();
    assert_eq!(degraded.status, Status::Degraded);
    assert!(degraded.error.unwrap().message().contains("too short"));
    assert_eq!(changes.next().await.unwrap().status, Status::Connected);
}

#[tokio::test]
async fn a_lite_consumer_handles_the_messages_of_its_lite_topics() {
    let mut lite = message("1", "x");
    lite.system_properties.as_mut().unwrap().lite_topic = Some("a".to_owned());
    let server = TestServer::start(with_messages(vec![lite]));
    let consumer = consumer(&server, PushConsumerOptions::lite("g", "parent")).await;
    consumer.subscribe_lite("a").await.unwrap();
    assert_eq!(consumer.lite_topics(), ["a"]);
    consumer.start(|_| async { ConsumeResult::Ack }).unwrap();
    wait_for_acks(&server, 1).await;
    let request = server.seen.acked.lock().unwrap()[0].clone();
    assert_eq!(
        (request.topic.unwrap().name, request.entries[0].lite_topic.as_deref()),
        ("parent".into(), Some("a"))
    );
    let settings = server.seen.settings.lock().unwrap()[0].clone();
    assert_eq!(settings.client_type(), v2::ClientType::LitePushConsumer);
    let revocations = consumer.lite_revocations().unwrap();
    let lite_topic = "a".to_owned();
    server.seen.push(Command::NotifyUnsubscribeLiteCommand(v2::NotifyUnsubscribeLiteCommand { lite_topic }));
    assert_eq!(revocations.next().await.as_deref(), Some("a"));
    consumer.close(Duration::from_secs(5)).await;
    assert_eq!(revocations.next().await, None);
}

#[tokio::test]
async fn invalid_options_are_refused() {
    let server = TestServer::start(Script::default());
    let client = client(&server).await;
    for options in [
        PushConsumerOptions::new("", ["t"]),
        options().concurrency(0),
        options().max_cached_messages(0),
        options().max_cached_bytes(0),
        options().invisible_duration(Duration::from_millis(60)),
        options().max_rate(0.0),
        options().max_rate(f64::NAN),
    ] {
        let error = client.push_consumer(options).await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidOptions, "push_consumer"));
    }
}
