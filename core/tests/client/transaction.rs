//! Transactions, and orphan checks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rocketmq_thin::{
    Client, ClientOptions, Decision, ErrorKind, Message, OrphanCheck, Producer, ProducerOptions,
};
use rocketmq_thin_proto::v2::{
    self, Code, MessageType, RecoverOrphanedTransactionCommand, TransactionResolution, TransactionSource,
    telemetry_command::Command,
};

use crate::{
    client,
    log::Log,
    server::{Script, TestServer, message, status, stored},
};

/// A response whose transaction ids are the message ids with a prefix.
fn half_stored(request: &v2::SendMessageRequest) -> v2::SendMessageResponse {
    let mut response = stored(request);
    for entry in &mut response.entries {
        entry.transaction_id = format!("T{}", entry.message_id);
    }
    response
}

fn script() -> Script {
    Script { send: Box::new(|request, _| half_stored(request)), ..Script::default() }
}

async fn producer(server: &TestServer) -> Producer {
    client(server).await.producer(ProducerOptions::new(["t"])).await.unwrap()
}

/// Makes the server send an orphan check for the half message with this id.
fn ask(server: &TestServer, id: &str) {
    let mut half = message(id, "half");
    half.topic = Some(v2::Resource { resource_namespace: String::new(), name: "t".into() });
    let transaction_id = format!("T{id}");
    server.seen.push(Command::RecoverOrphanedTransactionCommand(RecoverOrphanedTransactionCommand {
        message: Some(half),
        transaction_id,
    }));
}

/// The decisions that the server received, in the order of the message ids.
fn decisions(server: &TestServer) -> Vec<(String, TransactionResolution, TransactionSource)> {
    let ended = server.seen.ended.lock().unwrap();
    let mut decisions: Vec<_> =
        ended.iter().map(|end| (end.message_id.clone(), end.resolution(), end.source())).collect();
    decisions.sort_by(|one, other| one.0.cmp(&other.0));
    decisions
}

#[tokio::test]
async fn all_messages_of_a_transaction_are_decided() {
    for (commit, resolution) in
        [(true, TransactionResolution::Commit), (false, TransactionResolution::Rollback)]
    {
        let server = TestServer::start(script());
        let producer = producer(&server).await;
        let transaction = producer.begin().unwrap();
        let first = transaction.send(Message::new("t", "1")).await.unwrap();
        let second = transaction.send(Message::new("u", "2")).await.unwrap();
        let sent = server.seen.sent.lock().unwrap().clone();
        let types = sent.iter().map(|it| it.messages[0].system_properties.as_ref().unwrap().message_type());
        assert!(types.eq([MessageType::Transaction; 2]));
        assert!(server.seen.ended.lock().unwrap().is_empty());
        if commit {
            transaction.commit().await.unwrap()
        } else {
            transaction.rollback().await.unwrap()
        }
        let expected = [&first, &second]
            .map(|receipt| (receipt.message_id.clone(), resolution, TransactionSource::SourceClient));
        assert_eq!(decisions(&server), expected);
        let ended = server.seen.ended.lock().unwrap().clone();
        let mut topics: Vec<_> = ended.iter().map(|end| end.topic.as_ref().unwrap().name.clone()).collect();
        topics.sort();
        assert_eq!(topics, ["t", "u"]);
        assert!(ended.iter().all(|end| end.transaction_id == format!("T{}", end.message_id)));
    }
}

#[tokio::test]
async fn a_second_decision_is_refused() {
    let server = TestServer::start(script());
    let transaction = producer(&server).await.begin().unwrap();
    transaction.send(Message::new("t", "1")).await.unwrap();
    transaction.commit().await.unwrap();
    let errors = [
        (transaction.commit().await.unwrap_err(), "commit"),
        (transaction.rollback().await.unwrap_err(), "rollback"),
        (transaction.send(Message::new("t", "2")).await.unwrap_err(), "send"),
    ];
    for (error, operation) in errors {
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidArgument, operation));
        assert!(error.message().contains("already committed"), "{error}");
    }
    assert_eq!((server.seen.counted("end"), server.seen.counted("send")), (1, 1));
}

#[tokio::test]
async fn a_decision_is_retried_and_can_be_repeated_after_a_failure() {
    // The first message is committed at the third attempt, the second one only by another commit.
    let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let end = move |request: &v2::EndTransactionRequest, _| {
        let second = request.topic.as_ref().unwrap().name == "u";
        match (counts[usize::from(second)].fetch_add(1, Ordering::SeqCst), second) {
            (0 | 1, false) => Code::InternalServerError,
            (0, true) => Code::InvalidTransactionId,
            _ => Code::Ok,
        }
    };
    let server = TestServer::start(Script { end: Box::new(end), ..script() });
    let transaction = producer(&server).await.begin().unwrap();
    transaction.send(Message::new("t", "1")).await.unwrap();
    transaction.send(Message::new("u", "2")).await.unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!((error.code(), error.operation()), (Some(40008), "commit"));
    assert!(error.maybe_delivered() && error.message().contains("1 of 2"), "{error}");
    assert_eq!(transaction.rollback().await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    transaction.commit().await.unwrap();
    assert_eq!(server.seen.counted("end"), 5);
}

#[tokio::test]
async fn a_half_message_that_may_be_stored_is_not_sent_again() {
    let answers = [Code::TooManyRequests, Code::ProxyTimeout];
    let send = move |request: &_, before: usize| match answers.get(before) {
        Some(code) => v2::SendMessageResponse { status: status(*code, ""), entries: Vec::new() },
        None => half_stored(request),
    };
    let server = TestServer::start(Script { send: Box::new(send), ..Script::default() });
    let transaction = producer(&server).await.begin().unwrap();
    let error = transaction.send(Message::new("t", "1")).await.unwrap_err();
    assert_eq!((error.code(), error.maybe_delivered()), (Some(50400), true));
    assert_eq!(server.seen.counted("send"), 2);
    transaction.send(Message::new("t", "2")).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(server.seen.counted("end"), 1);
}

#[tokio::test]
async fn a_commit_includes_a_cancelled_send() {
    let server = TestServer::start(script());
    let transaction = producer(&server).await.begin().unwrap();
    let mut send = Box::pin(transaction.send(Message::new("t", "1")));
    assert!(futures::poll!(&mut send).is_pending());
    drop(send);
    transaction.commit().await.unwrap();
    assert_eq!((server.seen.counted("send"), server.seen.counted("end")), (1, 1));
}

#[tokio::test]
async fn a_decision_after_the_close_fails() {
    let server = TestServer::start(script());
    let producer = producer(&server).await;
    let transaction = producer.begin().unwrap();
    transaction.send(Message::new("t", "1")).await.unwrap();
    producer.close(Duration::from_secs(5)).await;
    assert_eq!(transaction.commit().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(producer.begin().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(server.seen.counted("end"), 0);
}

#[tokio::test]
async fn orphans_are_checked_and_a_failing_check_does_not_affect_others() {
    let server = TestServer::start(script());
    let producer = producer(&server).await;
    let asked = Arc::new(AtomicUsize::new(0));
    producer.check_orphans({
        let asked = asked.clone();
        move |check: OrphanCheck| {
            let asked = asked.clone();
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                match check.message_id.as_str() {
                    "hangs" => std::future::pending().await,
                    "panics" => panic!("a defect of the checker"),
                    "unknown" => Decision::Unknown,
                    id if id.starts_with("commit") => Decision::Commit,
                    _ => Decision::Rollback,
                }
            }
        }
    });
    for id in ["hangs", "panics", "unknown", "commit 1", "rollback"] {
        ask(&server, id);
    }
    server.seen.wait("end", 2).await;
    // While the check of a message hangs, a further check of it is ignored. Checks of other messages run.
    for id in ["hangs", "panics", "unknown", "commit 2"] {
        ask(&server, id);
    }
    server.seen.wait("end", 3).await;
    let source = TransactionSource::SourceServerCheck;
    let expected = [
        ("commit 1".to_owned(), TransactionResolution::Commit, source),
        ("commit 2".to_owned(), TransactionResolution::Commit, source),
        ("rollback".to_owned(), TransactionResolution::Rollback, source),
    ];
    assert_eq!(decisions(&server), expected);
    assert_eq!(server.seen.ended.lock().unwrap()[0].topic.as_ref().unwrap().name, "t");
    producer.close(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_decided_check_that_is_not_dropped_does_not_block_the_next_check() {
    let server = TestServer::start(script());
    let producer = producer(&server).await;
    let checks = producer.orphan_checks();
    ask(&server, "m");
    let unknown = checks.next().await.unwrap();
    unknown.decide(Decision::Unknown).await.unwrap();
    ask(&server, "m");
    let known = checks.next().await.unwrap();
    known.decide(Decision::Commit).await.unwrap();
    ask(&server, "m");
    assert_eq!(checks.next().await.unwrap().message_id, unknown.message_id);
    drop(known);
}

#[tokio::test]
async fn a_check_without_a_checker_is_logged_once() {
    let (log, server) = (Log::default(), TestServer::start(script()));
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let producer = producer(&server).await;
    // Before that, the program may still be about to set a checker.
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(1_100)).await;
    tokio::time::resume();
    ask(&server, "1");
    ask(&server, "2");
    log.wait("an orphan check was dropped", 2).await;
    assert_eq!(log.count("this producer has no checker of orphans"), 1, "{}", log.text());
    drop(producer);
}

#[tokio::test]
async fn checks_arrive_after_the_stream_was_lost() {
    let server = TestServer::start(script());
    let producer = producer(&server).await;
    let checks = producer.orphan_checks();
    server.seen.drop_streams();
    server.seen.wait("settings", 2).await;
    ask(&server, "1");
    let check = checks.next().await.unwrap();
    assert_eq!((check.message_id.as_str(), check.transaction_id.as_str()), ("1", "T1"));
    assert_eq!((check.message.topic.as_str(), &check.message.body[..]), ("t", &b"half"[..]));
    check.decide(Decision::Unknown).await.unwrap();
    check.decide(Decision::Rollback).await.unwrap();
    assert_eq!(check.decide(Decision::Commit).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(server.seen.counted("end"), 1);
}

#[tokio::test]
async fn checks_end_with_the_producer() {
    let server = TestServer::start(script());
    let producer = producer(&server).await;
    let replaced = producer.orphan_checks();
    let checks = producer.orphan_checks();
    assert!(replaced.next().await.is_none());
    ask(&server, "1");
    let check = checks.next().await.unwrap();
    drop(producer);
    assert!(checks.next().await.is_none());
    assert_eq!(check.decide(Decision::Commit).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn the_server_knows_the_topics_of_transactions() {
    let server = TestServer::start(script());
    let options = ClientOptions::new(server.endpoints()).namespace("prod");
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::default()).await.unwrap();
    let transaction = producer.begin().unwrap();
    transaction.send(Message::new("t", "1")).await.unwrap();
    transaction.commit().await.unwrap();
    server.seen.wait("settings", 2).await;
    let settings = server.seen.settings.lock().unwrap().pop().unwrap();
    let Some(v2::settings::PubSub::Publishing(publishing)) = settings.pub_sub else { panic!("no producer") };
    assert_eq!(publishing.topics[0].name, "t");
    let ended = server.seen.ended.lock().unwrap()[0].clone();
    assert_eq!(ended.topic.unwrap().resource_namespace, "prod");
}

#[tokio::test]
async fn the_server_that_stored_a_message_gets_the_decision_and_may_ask() {
    let broker = TestServer::start(script());
    let access = TestServer::start(Script { broker: Some(broker.address), ..script() });
    let producer = producer(&access).await;
    let checks = producer.orphan_checks();
    let transaction = producer.begin().unwrap();
    transaction.send(Message::new("t", "1")).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!((broker.seen.counted("end"), access.seen.counted("end")), (1, 0));
    ask(&broker, "2");
    checks.next().await.unwrap().decide(Decision::Commit).await.unwrap();
    assert_eq!((broker.seen.counted("end"), access.seen.counted("end")), (2, 0));
    ask(&access, "3");
    checks.next().await.unwrap().decide(Decision::Rollback).await.unwrap();
    assert_eq!((broker.seen.counted("end"), access.seen.counted("end")), (2, 1));
}
