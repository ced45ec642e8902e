//! Tests of the table of clients.

use super::super::validate::CLIENT_BYTES;
use super::*;

fn context(client_id: &str, peer: &str) -> Context {
    Context { peer: peer.into(), ..Context::of_client(client_id) }
}

fn connect(clients: &Clients, context: &Context, topics: &[&str]) -> Result<PushStream, Error> {
    let (stream, _pushed) = PushStream::open();
    let mut session = ClientSession::new(context, ClientKind::Producer, &stream)?;
    topics.iter().try_for_each(|topic| session.publish_to(topic))?;
    clients.insert(context, session)?;
    Ok(stream)
}

#[test]
fn another_host_with_the_same_id_can_not_affect_a_session() {
    let clients = Clients::default();
    let owner = context("c", "10.0.0.1:1000");
    let stranger = context("c", "10.0.0.2:1000");
    connect(&clients, &owner, &["t"]).expect("room");
    let key = clients.find(&owner).expect("known");

    assert!(clients.record_heartbeat(&stranger).is_none());
    assert!(clients.remove(&stranger).is_none());
    let stranger_stream = connect(&clients, &stranger, &["t"]).expect("room");
    assert_eq!(clients.producers_of("t", None, |_| true).len(), 2);
    assert_ne!(clients.find(&stranger), Some(key.clone()));
    clients.stream_ended(&stranger, &stranger_stream);
    assert!(clients.remove(&stranger).is_some());
    assert_eq!(clients.producers_of("t", None, |_| true).len(), 1);
    assert!(clients.is_present(&key));
}

#[test]
fn a_client_may_end_its_session_on_another_connection() {
    let clients = Clients::default();
    connect(&clients, &context("c", "10.0.0.1:1000"), &[]).expect("room");
    let elsewhere = context("c", "10.0.0.1:2000");
    assert!(clients.record_heartbeat(&elsewhere).is_some());
    assert!(clients.remove(&elsewhere).is_some());
    assert!(clients.find(&elsewhere).is_none());
}

#[test]
fn a_client_that_comes_back_from_another_host_is_known_at_once() {
    let clients = Clients::default();
    connect(&clients, &context("c", "10.0.0.1:1000"), &[]).expect("room");
    let moved = context("c", "10.0.0.9:1000");
    connect(&clients, &moved, &["t"]).expect("room");
    assert!(clients.record_heartbeat(&moved).is_some());
    assert_eq!(clients.producers_of("t", None, |_| true).len(), 1);
}

#[test]
fn the_end_of_an_old_stream_does_not_affect_the_new_one() {
    let clients = Clients::default();
    let client = context("c", "10.0.0.1:1000");
    let old = connect(&clients, &client, &["t"]).expect("room");
    connect(&clients, &client, &["t"]).expect("room");
    clients.stream_ended(&client, &old);
    assert_eq!(clients.producers_of("t", None, |_| true).len(), 1);
}

#[test]
fn one_host_can_not_fill_the_table_and_removed_clients_free_their_bytes() {
    let clients = Clients::default();
    let topics: Vec<_> = (0..MAX_TOPICS).map(|number| format!("{number:0>127}")).collect();
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    let hostile = |number: u32| context(&format!("c{number}"), "10.0.0.1:1000");
    let full = (0..).find(|number| connect(&clients, &hostile(*number), &topics).is_err());
    let full = full.expect("an end");
    assert!(full as usize * MAX_TOPICS * 127 <= MAX_BYTES / 8 * 7);
    assert!(connect(&clients, &context("other", "10.0.0.2:1"), &topics).is_ok());
    for number in 0..full {
        assert!(clients.remove(&hostile(number)).is_some());
    }
    assert!(connect(&clients, &hostile(full), &topics).is_ok());
    assert_eq!(clients.budget.hosts(), 2);
}

#[test]
fn names_that_are_too_long_or_too_many_are_refused() {
    let clients = Clients::default();
    let refused =
        |context: &Context, topics: &[&str]| connect(&clients, context, topics).err().map(|error| error.kind);
    assert_eq!(refused(&context(&"c".repeat(CLIENT_BYTES), "h"), &[]), None);
    assert_eq!(refused(&context(&"c".repeat(CLIENT_BYTES + 1), "h"), &[]), Some(ErrorKind::BadRequest));
    let topics: Vec<_> = (0..=MAX_TOPICS).map(|number| number.to_string()).collect();
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    assert_eq!(refused(&context("c", "h"), &topics), Some(ErrorKind::BadRequest));
}

#[test]
fn a_session_without_a_stream_expires_sooner() {
    let clients = Clients::default();
    let client = context("c", "10.0.0.1:1000");
    let stream = connect(&clients, &client, &[]).expect("room");
    let key = clients.find(&client).expect("known");
    let silent_for = |silence: Duration| {
        let mut sessions = clients.sessions.lock();
        let session = sessions.by_id.get_mut("c").and_then(|hosts| hosts.get_mut(&client.host()));
        session.expect("a session").last_heartbeat =
            Instant::now().checked_sub(silence).expect("an uptime of more than a minute");
    };
    silent_for(STREAMLESS_TIMEOUT);
    assert!(clients.is_present(&key));
    clients.stream_ended(&client, &stream);
    assert!(!clients.is_present(&key));
    silent_for(Duration::ZERO);
    assert!(clients.is_present(&key), "the client has sent a heartbeat since");
}
