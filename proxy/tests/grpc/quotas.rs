//! Quotas: who exceeds one is told so in the terms of their protocol, while others are served.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::front::grpc::RemoteAdmin;
use rocketmq_thin_proxy::layer::{OnExcess, Per, Quota};
use rocketmq_thin_proxy::remoting::{RemotingCommand, request};

use crate::admin;
use crate::admin::text;
use crate::classic::{Classic, code as classic_code, send as classic_send};
use crate::classic_queue::Consumer;
use crate::support::{
    Client, Proxy, ack, code, handle, message, receive, receive_as, receive_request, request_of, send,
};

/// So small that whoever has sent or received anything is refused for as long as a test takes.
fn tiny(per: Per) -> Quota {
    Quota { send_bytes_per_second: NonZeroU64::new(1), ..Quota::new("tiny".to_owned(), per) }
}

/// A body that takes many minutes' worth of it.
fn large() -> String {
    "x".repeat(1000)
}

async fn proxy(quota: Quota) -> Proxy {
    Proxy::configured(|config| config.quotas.push(quota)).await
}

pub(crate) async fn send_as(client: &mut Client, client_id: &str) -> pb::Status {
    let sent = pb::SendMessageRequest { messages: vec![message("t", "m", &large())] };
    let answer = client.send_message(request_of(client_id, sent)).await.expect("an answer");
    answer.into_inner().status.expect("a status")
}

#[tokio::test]
async fn a_client_beyond_its_quota_is_told_how_long_to_wait_while_others_are_served() {
    let proxy = proxy(tiny(Per::Client)).await;
    let mut client = proxy.client().await;
    assert_eq!(send_as(&mut client, "noisy").await.code(), pb::Code::Ok);
    let refused = send_as(&mut client, "noisy").await;
    assert_eq!(refused.code(), pb::Code::TooManyRequests);
    let told = "the quota tiny allows 1 sent bytes per second for each client; try again in ";
    let wait = refused.message.strip_prefix(told).and_then(|rest| rest.strip_suffix(" s"));
    let wait: f64 = wait.unwrap_or(&refused.message).parse().expect("a number of seconds");
    assert!(wait > 0.0 && wait <= 1000.0, "{wait}");
    assert_eq!(send_as(&mut client, "quiet").await.code(), pb::Code::Ok);
}

#[tokio::test]
async fn receives_wait_for_what_was_delivered_before_while_acknowledgements_go_on() {
    let quota = Quota { send_bytes_per_second: None, ..tiny(Per::Group) };
    let proxy = proxy(Quota { receive_bytes_per_second: NonZeroU64::new(1), ..quota }).await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("t", "m", &large())]).await;
    let received = receive(&mut client, receive_request("t", "g")).await;
    assert_eq!(received.messages.len(), 1);
    let again = receive(&mut client, receive_request("t", "g")).await;
    assert_eq!(again.status.code(), pb::Code::TooManyRequests, "{}", again.status.message);
    let acked = ack(&mut client, ["t", "g"], &[&handle(&received.messages[0])]).await;
    assert_eq!(code(acked.status), pb::Code::Ok);
    let other = receive(&mut client, receive_request("t", "h")).await;
    assert_eq!(other.messages.len(), 1, "another group has its own");
}

#[tokio::test]
async fn a_poll_too_many_is_refused_until_one_has_ended() {
    let quota = Quota { send_bytes_per_second: None, ..tiny(Per::Client) };
    let proxy = proxy(Quota { long_polls: NonZeroU32::new(1), ..quota }).await;
    let (mut one, mut other) = (proxy.client().await, proxy.client().await);
    let polls = [&mut one, &mut other].map(|client| Box::pin(receive(client, receive_request("t", "g"))));
    let (refused, _, waiting) = futures::future::select_all(polls).await;
    assert_eq!(refused.status.code(), pb::Code::TooManyRequests);
    let told = refused.status.message;
    assert!(told.contains("1 waiting receives for each client"), "{told}");
    let mut third = proxy.client().await;
    send(&mut third, vec![message("t", "m", "body")]).await;
    let wanted = request_of("another", receive_request("t", "h"));
    assert_eq!(receive_as(&mut third, wanted).await.messages.len(), 1);
    for poll in waiting {
        assert_eq!(poll.await.messages.len(), 1);
    }
}

#[tokio::test]
async fn a_classic_client_beyond_its_quota_is_told_that_the_system_is_busy() {
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.quotas.push(tiny(Per::Client));
    })
    .await;
    let mut noisy = Classic::connect(proxy.address).await;
    noisy.heartbeat("noisy", &["pg"], &[]).await;
    let order = || classic_send("t", 0, &[("UNIQ_KEY", "id")], &large());
    assert_eq!(noisy.call(order()).await.code, classic_code::SUCCESS);
    let refused = noisy.call(order()).await;
    assert_eq!(refused.code, classic_code::SYSTEM_BUSY);
    let told = refused.remark.expect("a remark");
    assert!(told.contains("the quota tiny allows 1 sent bytes per second for each client"), "{told}");
    // It stays alive meanwhile.
    noisy.heartbeat("noisy", &["pg"], &[]).await;
    let mut quiet = Classic::connect(proxy.address).await;
    quiet.heartbeat("quiet", &["pg"], &[]).await;
    assert_eq!(quiet.call(order()).await.code, classic_code::SUCCESS);
}

#[tokio::test]
async fn what_a_classic_client_asks_for_counts_and_not_what_the_proxy_needs_for_it() {
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.backend.embedded.default_queues = 1;
        // A request in many minutes.
        config.fleet_size = NonZeroU32::new(1000).expect("proxies");
        let quota = Quota::new("slow".to_owned(), Per::Group);
        config.quotas.push(Quota { requests_per_second: NonZeroU64::new(1), ..quota });
    })
    .await;
    send(&mut proxy.client().await, vec![message("t", "m", "body")]).await;
    for (group, consume_type, by_position) in [
        ("pop", "CONSUME_POP", false),
        ("push", "CONSUME_PASSIVELY", true),
        ("pull", "CONSUME_ACTIVELY", false),
    ] {
        let consumer = Consumer { group, topic: "t", consume_type };
        let mut client = Classic::consumer(&proxy, group, consumer).await;
        let from = if by_position { client.offset(consumer).await } else { 0 };
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(match group {
                "pop" => client.call(pop(consumer)).await,
                _ => client.pull(consumer, from).await,
            });
        }
        let codes: Vec<_> = answers.iter().map(|answer| answer.code).collect();
        assert_eq!(codes, [classic_code::SUCCESS, classic_code::SYSTEM_BUSY], "{group}: {answers:?}");
    }
}

fn pop(consumer: Consumer<'_>) -> RemotingCommand {
    let pop = consumer.about(request::POP_MESSAGE).field("maxMsgNums", 32).field("invisibleTime", 60_000);
    pop.field("pollTime", 20_000)
        .field("bornTime", 0)
        .field("initMode", 0)
        .field("expType", "TAG")
        .field("exp", "*")
}

#[tokio::test]
async fn quotas_are_set_listed_and_removed_at_run_time() {
    let proxy = proxy(tiny(Per::Client)).await;
    let mut client = proxy.client().await;
    assert_eq!(send_as(&mut client, "c").await.code(), pb::Code::Ok);
    assert_eq!(send_as(&mut client, "c").await.code(), pb::Code::TooManyRequests);
    let run = async |arguments: &[&str]| admin::run(&proxy, &[&["quota"], arguments].concat(), "").await;

    let listed = run(&["list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!((&listed[0]["name"], &listed[0]["refused"]), (&"tiny".into(), &1.into()), "{listed}");
    assert!(run(&["remove", "tiny"]).await.status.success());
    assert_eq!(send_as(&mut client, "c").await.code(), pb::Code::Ok);
    let again = run(&["remove", "tiny"]).await;
    assert!(text(&again.stderr).contains("there is no such quota; `quota list`"), "{}", text(&again.stderr));

    let set =
        ["set", "topics", "--per", "topic", "--topic", "t*", "--send-bytes-per-second", "1", "--burst", "2s"];
    let set = run(&[&set[..], &["--on-excess", "delay", "--max-delay", "100ms"]].concat()).await;
    assert!(set.status.success(), "{}", text(&set.stderr));
    assert_eq!(send_as(&mut client, "c").await.code(), pb::Code::Ok);
    let refused = send_as(&mut client, "another").await;
    assert_eq!(refused.code(), pb::Code::TooManyRequests);
    assert!(refused.message.starts_with("the quota topics allows"), "{}", refused.message);
    let listed = run(&["list"]).await;
    let listed = text(&listed.stdout);
    assert!(listed.contains("topics  topic  topic t*  1 B sent/s  2s     delayed 100ms  1"), "{listed}");

    let sizes = ["set", "sizes", "--per", "entry", "--entry", "main", "--message-bytes", "8"];
    assert!(run(&sizes).await.status.success());
    let refused = send_as(&mut client, "d").await;
    assert_eq!(refused.code(), pb::Code::MessageBodyTooLarge);
    assert_eq!(refused.message, "the quota sizes allows 8 bytes for the body of a message");
    assert!(run(&[&sizes[..], &["--entry", "public"]].concat()).await.status.code() == Some(2), "one entry");
    let listed = run(&["list"]).await;
    assert!(
        text(&listed.stdout).contains("sizes   entry  entry main  8 B a message"),
        "{}",
        text(&listed.stdout)
    );

    for (wrong, told) in [
        (&["set", "x", "--per", "client"][..], "it limits nothing"),
        (&["set", "x", "--per", "user", "--long-polls", "1"], "without access control"),
        (&["set", "x", "--per", "client", "--long-polls", "0"], "0"),
    ] {
        let refused = run(wrong).await;
        assert!(
            !refused.status.success() && text(&refused.stderr).contains(told),
            "{}",
            text(&refused.stderr)
        );
    }
}

#[tokio::test]
async fn a_delayed_request_waits_for_its_turn_and_is_carried_out_before_a_shutdown() {
    let max_delay = Duration::from_secs(60);
    let proxy = proxy(Quota { on_excess: OnExcess::Delay, max_delay, ..tiny(Per::Client) }).await;
    let mut client = proxy.client().await;
    let sent = pb::SendMessageRequest { messages: vec![message("t", "m", &"x".repeat(50))] };
    let send = || request_of("c", sent.clone());
    let first = client.send_message(send()).await.expect("an answer").into_inner();
    assert_eq!(code(first.status), pb::Code::Ok);
    let mut delayed = Box::pin(client.send_message(send()));
    let mut administrator =
        RemoteAdmin::connect(&proxy.address.to_string(), None, None).await.expect("a proxy");
    loop {
        assert!(futures::poll!(&mut delayed).is_pending());
        if administrator.quotas().await.expect("quotas")[0].delayed == 1 {
            break;
        }
    }
    drop(administrator);
    let (_data, answer) = tokio::join!(proxy.stop(), delayed);
    assert_eq!(code(answer.expect("an answer").into_inner().status), pb::Code::Ok);
}
