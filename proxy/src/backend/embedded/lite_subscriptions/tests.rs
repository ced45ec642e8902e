//! Tests of who is subscribed, of the limits, and of the lite topics that are ready.

use super::*;

const QUOTA: usize = 3;

fn key(client: &str) -> MemberKey {
    MemberKey { topic: 1, group: 2, client: client.into() }
}

fn change(client: &str, action: LiteAction, names: &[&str]) -> LiteChange {
    LiteChange {
        client_id: client.to_owned(),
        topic: "t".to_owned(),
        group: "g".to_owned(),
        action,
        lite_topics: names.iter().map(|name| (*name).to_owned()).collect(),
        quota: QUOTA,
        start: None,
        deadline: Instant::now(),
    }
}

fn apply(
    subscriptions: &Subscriptions,
    client: &str,
    action: LiteAction,
    names: &[&str],
) -> Result<(), ServiceErrorKind> {
    let change = change(client, action, names);
    subscriptions.change(&key(client), &change, false).map_err(|error| error.kind)
}

fn ready(receiving: &ReceivingMember) -> Vec<String> {
    let mut names: Vec<_> =
        std::iter::from_fn(|| receiving.with(LiteMember::next_ready)).map(|n| n.to_string()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_lite_topic_is_ready_once_from_an_event_until_it_is_scanned() {
    let subscriptions = Subscriptions::new(100);
    apply(&subscriptions, "c", LiteAction::Add, &["a", "b"]).expect("added");
    let receiving = subscriptions.begin_receive(key("c"));
    assert_eq!(ready(&receiving), ["a", "b"], "there may be earlier messages");
    for _ in 0..3 {
        subscriptions.deliverable(1, None, "b");
        subscriptions.deliverable(1, Some(2), "b");
    }
    subscriptions.deliverable(1, Some(9), "a");
    subscriptions.deliverable(9, None, "a");
    subscriptions.deliverable(1, None, "other");
    assert_eq!(ready(&receiving), ["b"]);
    apply(&subscriptions, "c", LiteAction::Replace, &["a", "b"]).expect("repeated");
    assert_eq!(ready(&receiving), [""; 0], "repeated subscriptions are not ready again");
    subscriptions.deliverable(1, None, "b");
    apply(&subscriptions, "c", LiteAction::Remove, &["b"]).expect("removed");
    assert_eq!(ready(&receiving), [""; 0]);
}

#[test]
fn subscriptions_are_bounded_per_client_and_in_total() {
    let subscriptions = Subscriptions::new(5);
    let refused = Err(ServiceErrorKind::LiteSubscriptionQuota);
    apply(&subscriptions, "c", LiteAction::Add, &["a", "b"]).expect("room");
    assert_eq!(apply(&subscriptions, "c", LiteAction::Add, &["b", "c", "d"]), refused);
    apply(&subscriptions, "c", LiteAction::Add, &["b", "c"]).expect("room");
    assert_eq!(apply(&subscriptions, "d", LiteAction::Add, &["a", "b", "c"]), refused);
    apply(&subscriptions, "d", LiteAction::Replace, &["a", "b"]).expect("room");
    apply(&subscriptions, "d", LiteAction::Replace, &["x", "y"]).expect("as many as before");
    assert_eq!(apply(&subscriptions, "d", LiteAction::Replace, &["x", "y", "z"]), refused);
    let small = LiteChange { quota: 1, ..change("c", LiteAction::Replace, &["a", "b"]) };
    subscriptions.change(&key("c"), &small, false).expect("no more than before");
    apply(&subscriptions, "d", LiteAction::Add, &["z"]).expect("room");
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    assert_eq!(apply(&subscriptions, &long, LiteAction::Add, &["a"]), Err(ServiceErrorKind::Rejected));
    for action in [LiteAction::Add, LiteAction::Replace] {
        assert_eq!(apply(&subscriptions, "e", action, &[&long]), Err(ServiceErrorKind::Rejected));
    }
    apply(&subscriptions, "e", LiteAction::Remove, &[&long]).expect("nothing is stored");
}

#[test]
fn absent_clients_are_removed() {
    let subscriptions = Subscriptions::new(100);
    apply(&subscriptions, "c", LiteAction::Add, &["a", "b"]).expect("added");
    apply(&subscriptions, "c", LiteAction::Clear, &[]).expect("cleared");
    apply(&subscriptions, "c", LiteAction::Replace, &["a"]).expect("added");
    let receiving = subscriptions.begin_receive(key("c"));
    subscriptions.remove_silent(Instant::now());
    assert!(subscriptions.has_subscribers(1, "a"));
    subscriptions.remove_silent(Instant::now() + CLIENT_TIMEOUT);
    assert!(!subscriptions.has_subscribers(1, "a"));
    subscriptions.deliverable(1, None, "a");
    assert_eq!(ready(&receiving), [""; 0]);
    assert_eq!(subscriptions.state.lock().topics.len(), 1, "the client still receives");
    drop(receiving);
    drop(subscriptions.begin_receive(key("d")));
    let state = subscriptions.state.lock();
    assert_eq!((state.topics.len(), state.count), (0, 0));
}

#[tokio::test]
async fn only_a_new_subscription_takes_over_an_exclusive_lite_topic() {
    let subscriptions = Subscriptions::new(100);
    let exclusively = |client: &str, action, names: &[&str]| {
        subscriptions.change(&key(client), &change(client, action, names), true).expect("changed");
    };
    exclusively("first", LiteAction::Add, &["a", "b"]);
    exclusively("second", LiteAction::Add, &["b", "c"]);
    for client in ["first", "second"] {
        exclusively(client, LiteAction::Replace, if client == "first" { &["a", "b"] } else { &["b", "c"] });
    }
    for _ in 0..2 {
        let BrokerRequest::LiteUnsubscribed { client_id, lite_topic } = subscriptions.next_revocation().await
        else {
            panic!("a revocation")
        };
        assert_eq!((client_id.as_str(), lite_topic.as_str()), ("first", "b"));
    }
    assert!(subscriptions.revocations.lock().await.try_recv().is_err());
    let [first, second] = ["first", "second"].map(|client| subscriptions.begin_receive(key(client)));
    assert_eq!((ready(&first), ready(&second)), (vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]));
    exclusively("first", LiteAction::Add, &["b"]);
    assert_eq!(ready(&first), ["b"]);
}
