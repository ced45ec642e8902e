//! What an administrator does with groups: where they begin, resets, single settings.

use crate::admin::{run, text};
use crate::inspect::{json, send_keyed};
use crate::support::{self, Client, Proxy, ack, handle, receive, receive_request, send, system};

async fn done(proxy: &Proxy, arguments: &[&str]) {
    let output = run(proxy, arguments, "").await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
}

async fn one_queue() -> Proxy {
    Proxy::configured(|config| config.backend.embedded.default_queues = 1).await
}

/// The ids of what a group gets now, in order, leased for a minute.
async fn ids(client: &mut Client, group: &str) -> Vec<String> {
    let received = receive(client, receive_request("t", group)).await;
    received.messages.iter().map(|message| system(message).message_id.clone()).collect()
}

#[tokio::test]
async fn a_group_that_was_reset_gets_messages_again_and_old_receipts_settle_nothing() {
    let proxy = one_queue().await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", 6).await;
    let received = receive(&mut client, receive_request("t", "g")).await.messages;
    let handles: Vec<_> = received.iter().map(handle).collect();
    let handles: Vec<_> = handles.iter().map(String::as_str).collect();
    ack(&mut client, ["t", "g"], &handles[..3]).await;

    let reset = json(&proxy, &["group", "reset", "g", "t", "--to", "earliest"]).await;
    assert_eq!(
        (&reset["queues"][0]["settled_before"], &reset["queues"][0]["next_offset"]),
        (&3.into(), &0.into())
    );
    let again = receive(&mut client, receive_request("t", "g")).await.messages;
    assert_eq!(again.len(), 6);
    assert!(again.iter().all(|message| system(message).delivery_attempt == Some(1)));
    ack(&mut client, ["t", "g"], &handles).await;
    assert_eq!(json(&proxy, &["group", "stats", "g"]).await["topics"][0]["in_flight"], 6);

    done(&proxy, &["group", "reset", "g", "t", "--queue", "0", "--offset", "4"]).await;
    assert_eq!(ids(&mut client, "g").await, ["m4", "m5"]);
    done(&proxy, &["group", "reset", "g", "t", "--to", "latest"]).await;
    assert_eq!(json(&proxy, &["group", "stats", "g"]).await["topics"][0]["lag"], 0);
    done(&proxy, &["group", "reset", "g", "t", "--to", "1h"]).await;
    assert_eq!(ids(&mut client, "g").await.len(), 6);
    let beyond = run(&proxy, &["group", "reset", "g", "t", "--queue", "0", "--offset", "7"], "").await;
    assert!(text(&beyond.stderr).contains("0 to 6"), "{}", text(&beyond.stderr));
}

#[tokio::test]
async fn a_reset_wakes_a_waiting_receive() {
    let proxy = one_queue().await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", 1).await;
    let received = receive(&mut client, receive_request("t", "g")).await.messages;
    ack(&mut client, ["t", "g"], &[&handle(&received[0])]).await;
    let waiting = tokio::spawn({
        let mut client = client.clone();
        async move { ids(&mut client, "g").await }
    });
    done(&proxy, &["group", "reset", "g", "t", "--to", "earliest"]).await;
    assert_eq!(waiting.await.expect("an answer"), ["m0"]);
}

#[tokio::test]
async fn a_group_begins_where_its_configuration_says_also_after_a_restart() {
    let proxy = one_queue().await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", 2).await;
    done(&proxy, &["group", "create", "late", "--start", "latest"]).await;
    done(&proxy, &["group", "create", "early", "--start", "earliest"]).await;
    done(&proxy, &["group", "create", "timed", "--start", "1h"]).await;
    done(&proxy, &["group", "create", "future", "--start", "2100-01-01T00:00:00Z"]).await;
    let data = proxy.stop().await;

    let proxy = Proxy::in_directory(data, |_| {}).await;
    let mut client = proxy.client().await;
    for group in ["late", "future"] {
        assert!(support::is_empty(&mut client, "t", group).await, "{group}");
    }
    send(&mut client, vec![support::message("t", "m2", "body")]).await;
    for group in ["late", "future"] {
        assert_eq!(ids(&mut client, group).await, ["m2"]);
    }
    for group in ["early", "timed"] {
        assert_eq!(ids(&mut client, group).await, ["m0", "m1", "m2"]);
    }
    let shown = run(&proxy, &["group", "show", "late"], "").await;
    assert!(text(&shown.stdout).contains("start = \"latest\""), "{}", text(&shown.stdout));
}

#[tokio::test]
async fn an_update_changes_what_it_names() {
    let proxy = Proxy::start().await;
    done(&proxy, &["group", "create", "g", "--fifo", "--max-retries", "3", "--retry", "1s,30s"]).await;
    done(&proxy, &["group", "update", "g", "--max-retries", "5"]).await;
    let shown = json(&proxy, &["group", "show", "g"]).await;
    let group = &shown["groups"][0];
    assert_eq!(
        (&group["fifo"], &group["max_retries"], &group["retry"][1]),
        (&true.into(), &5.into(), &"30s".into())
    );
    done(&proxy, &["group", "update", "g", "--retry-initial", "2s", "--retry-multiplier", "1.5"]).await;
    let shown = json(&proxy, &["group", "show", "g"]).await;
    assert_eq!(shown["groups"][0]["retry"]["multiplier"], 1.5);
    let shrinking = run(&proxy, &["group", "update", "g", "--retry-multiplier", "0.5"], "").await;
    assert!(text(&shrinking.stderr).contains("multiplier"), "{}", text(&shrinking.stderr));

    done(&proxy, &["topic", "create", "t", "--type", "fifo", "--queues", "2"]).await;
    done(&proxy, &["topic", "update", "t", "--perm", "r"]).await;
    let shown = json(&proxy, &["topic", "show", "t"]).await;
    let topic = &shown["topics"][0];
    assert_eq!(
        (&topic["type"], &topic["read_queues"], &topic["perm"]),
        (&"fifo".into(), &2.into(), &"r".into())
    );
    let absent = run(&proxy, &["topic", "update", "absent", "--perm", "r"], "").await;
    assert!(text(&absent.stderr).contains("no topic absent"), "{}", text(&absent.stderr));
}
