use super::super::queue_ledger::FIRST_POSITION;
use super::*;

fn at(group: &str) -> GroupTopic {
    GroupTopic { group: group.to_owned(), topic: "t".to_owned() }
}

fn queue(group: &str, id: i32) -> ClientQueue {
    ClientQueue { at: at(group), queue: BrokerQueue { broker: String::new(), id } }
}

fn held(count: usize, bytes: usize) -> Vec<HeldMessage> {
    let one = |number: usize| HeldMessage {
        handle: format!("h{number}"),
        message_id: "m".to_owned(),
        log_position: number as i64,
        attempt: 1,
        bytes,
        pull: 0,
    };
    (0..count).map(one).collect()
}

fn begin(ledgers: &mut Ledgers, queue: &ClientQueue, position: i64, wanted: usize) -> PendingPull {
    let mut pulling = ledgers.begin_pull(queue, position, Instant::now()).expect("few queues");
    ledgers.reserve(&mut pulling, wanted);
    pulling
}

/// Pulls up to this many messages. Returns how many the ledger allowed.
fn pull(ledgers: &mut Ledgers, queue: &ClientQueue, position: i64, count: usize) -> usize {
    let now = Instant::now();
    let pulling = begin(ledgers, queue, position, count);
    let count = pulling.reserved;
    assert_eq!(ledgers.hand_out(&pulling, held(count, 10), now), Some(position));
    ledgers.end_pull(&pulling, now);
    count
}

#[test]
fn unused_receive_locks_are_removed() {
    let mut ledgers = Ledgers::default();
    let of_broker = |name: &str| {
        let queue = BrokerQueue { broker: name.to_owned(), id: 0 };
        ClientQueue { at: at("g"), queue }
    };
    let waiting = begin(&mut ledgers, &of_broker("a"), FIRST_POSITION, 1);
    for number in 0..10 {
        drop(begin(&mut ledgers, &of_broker(&number.to_string()), FIRST_POSITION, 1));
    }
    ledgers.sweep(Instant::now());
    let brokers: Vec<_> = ledgers.topics[&at("g")].receive_locks.keys().collect();
    assert_eq!(brokers, ["a"]);
    drop(waiting);
}

#[test]
fn a_client_that_settles_nothing_gets_few_messages_from_all_queues_together() {
    let mut ledgers = Ledgers::default();
    let mut brought = Vec::new();
    for id in 0..8 {
        brought.push(pull(&mut ledgers, &queue("g", id), FIRST_POSITION, 20));
    }
    assert_eq!(brought, [16, 8, 4, 2, 1, 1, 0, 0]);
    assert_eq!(brought.iter().sum::<usize>(), INITIAL_WINDOW);
    assert_eq!(pull(&mut ledgers, &queue("other", 0), FIRST_POSITION, 20), 16);
}

#[test]
fn the_window_grows_as_the_client_settles_messages() {
    let mut ledgers = Ledgers::default();
    let queue = queue("g", 0);
    let (mut position, mut most, now) = (FIRST_POSITION, 0, Instant::now());
    for _ in 0..100 {
        loop {
            let came = pull(&mut ledgers, &queue, position, 32);
            position += came as i64;
            if came == 0 {
                break;
            }
        }
        let acknowledged = ledgers.commit(&queue, position, now).len();
        most = most.max(acknowledged);
    }
    assert_eq!(most, MAX_WINDOW);
}

#[test]
fn a_slow_client_does_not_hold_more_and_more() {
    let (mut ledgers, queue, mut now) = (Ledgers::default(), queue("g", 0), Instant::now());
    let (mut position, mut committed) = (FIRST_POSITION, FIRST_POSITION);
    for _ in 0..600 {
        now += Duration::from_millis(100);
        position += pull(&mut ledgers, &queue, position, 32) as i64;
        assert!(position - committed <= SLOW_CLIENT_WINDOW as i64);
        committed = (committed + 5).min(position);
        ledgers.commit(&queue, committed, now);
    }
    assert!(position - committed > SLOW_CLIENT_WINDOW as i64 / 2);
}

#[test]
fn pulls_in_progress_count() {
    let mut ledgers = Ledgers::default();
    let now = Instant::now();
    let first = begin(&mut ledgers, &queue("g", 0), FIRST_POSITION, 32);
    let second = begin(&mut ledgers, &queue("g", 1), FIRST_POSITION, 32);
    assert_eq!((first.reserved, second.reserved), (16, 8));
    ledgers.end_pull(&first, now);
    ledgers.end_pull(&second, now);
    assert_eq!(pull(&mut ledgers, &queue("g", 1), FIRST_POSITION, 32), 16);
    for id in 2..99 {
        let waiting = begin(&mut ledgers, &queue("g", id), FIRST_POSITION, 32);
        assert!(waiting.reserved >= 1, "a pull can reach each broker");
    }
}

#[test]
fn pulls_from_one_broker_share_a_receive_lock() {
    let mut ledgers = Ledgers::default();
    let queue =
        |broker: &str, id| ClientQueue { at: at("g"), queue: BrokerQueue { broker: broker.to_owned(), id } };
    let [first, second, other] =
        [("a", 0), ("a", 1), ("b", 0)].map(|(broker, id)| begin(&mut ledgers, &queue(broker, id), 0, 1));
    assert!(Arc::ptr_eq(&first.receive_lock, &second.receive_lock));
    assert!(!Arc::ptr_eq(&first.receive_lock, &other.receive_lock));
}

#[test]
fn large_messages_fill_the_window_sooner() {
    let mut ledgers = Ledgers::default();
    let (queue, now) = (queue("g", 0), Instant::now());
    let pulling = begin(&mut ledgers, &queue, FIRST_POSITION, 16);
    let large = held(16, MAX_BYTES / 16);
    ledgers.hand_out(&pulling, large, now).expect("for this client");
    ledgers.end_pull(&pulling, now);
    let next = FIRST_POSITION + 16;
    assert_eq!(pull(&mut ledgers, &queue, next, 16), 0);
    assert_eq!(ledgers.commit(&queue, FIRST_POSITION + 1, now).len(), 1);
    assert_eq!(pull(&mut ledgers, &queue, next, 16), 9);
}

#[test]
fn a_queue_that_is_started_again_ignores_older_pulls() {
    let mut ledgers = Ledgers::default();
    let (queue, now) = (queue("g", 0), Instant::now());
    let fresh = FIRST_POSITION + 1000;
    assert_eq!(ledgers.start_queue(&queue, fresh, now), (fresh, FreedMessages::default()));
    pull(&mut ledgers, &queue, fresh, 3);
    let mut old = begin(&mut ledgers, &queue, fresh + 3, 3);
    let (next, freed) = ledgers.start_queue(&queue, fresh, now);
    assert_eq!((next, freed.maybe_begun.len()), (fresh + 3, 3));
    assert_eq!(ledgers.hand_out(&old, held(1, 1), now), None);
    ledgers.end_pull(&old, now);
    old.reserved = 0;
    ledgers.reserve(&mut old, 3);
    assert_eq!(old.reserved, 0);
    assert_eq!(pull(&mut ledgers, &queue, next, 32), INITIAL_WINDOW / 2);
}

#[test]
fn a_message_that_is_sent_back_leaves_the_window_and_is_found_in_its_group_only() {
    let mut ledgers = Ledgers::default();
    let (at, now) = (at("g"), Instant::now());
    let mut position = FIRST_POSITION;
    while position < FIRST_POSITION + INITIAL_WINDOW as i64 {
        position += pull(&mut ledgers, &queue("g", 0), position, 32) as i64;
    }
    assert_eq!(pull(&mut ledgers, &queue("g", 0), position, 32), 0);
    let fifth = |held: &HeldMessage| held.log_position == 5;
    assert_eq!(ledgers.find("other", fifth), None);
    let (topic, found) = ledgers.find("g", fifth).expect("held");
    assert_eq!((&topic, found.handle.as_str()), (&at, "h5"));
    assert_eq!(ledgers.take(&topic, now, fifth), Some(found));
    assert_eq!(pull(&mut ledgers, &queue("g", 0), position, 32), 1);
}

#[test]
fn abandoned_queues_are_removed_and_stuck_ones_shrink() {
    let mut ledgers = Ledgers::default();
    let start = Instant::now();
    let mut position = FIRST_POSITION;
    while position < FIRST_POSITION + 200 {
        position += pull(&mut ledgers, &queue("g", 0), position, 32) as i64;
        ledgers.commit(&queue("g", 0), position, start);
    }
    let committed = position;
    while position < committed + 128 {
        position += pull(&mut ledgers, &queue("g", 0), position, 32) as i64;
    }
    let late = start + STUCK_AFTER * 2;
    ledgers.commit(&queue("g", 0), committed, late);
    let swept = ledgers.sweep(late);
    assert_eq!(swept.len(), 1);
    assert_eq!((swept[0].1.maybe_begun.len(), swept[0].1.untouched.len()), (0, 128 - MAYBE_BEGUN));
    let swept = ledgers.sweep(late + ABANDONED_AFTER);
    assert_eq!(swept[0].1.maybe_begun.len(), MAYBE_BEGUN);
    assert!(ledgers.topics.is_empty());
}

#[test]
fn a_group_that_is_freed_gives_back_its_own_messages() {
    let mut ledgers = Ledgers::default();
    for group in ["g", "h"] {
        pull(&mut ledgers, &queue(group, 0), FIRST_POSITION, 3);
    }
    let left = ledgers.free_group(Some("g"));
    assert_eq!((left.len(), left[0].0.group.as_str(), left[0].1.maybe_begun.len()), (1, "g", 3));
    assert_eq!(ledgers.free_group(None).len(), 1);
    assert!(ledgers.topics.is_empty());
}

#[test]
fn one_connection_has_a_limited_number_of_queues() {
    let mut ledgers = Ledgers::default();
    let now = Instant::now();
    for id in 0..MAX_QUEUES as i32 {
        assert!(ledgers.begin_pull(&queue("g", id), FIRST_POSITION, now).is_some());
    }
    assert!(ledgers.begin_pull(&queue("g", -1), FIRST_POSITION, now).is_none());
    assert!(ledgers.begin_pull(&queue("g", 0), FIRST_POSITION, now).is_some());
}

#[test]
fn messages_that_could_not_be_settled_count_as_held_and_are_tried_again() {
    let (mut ledgers, queue, now) = (Ledgers::default(), queue("g", 0), Instant::now());
    let count = pull(&mut ledgers, &queue, FIRST_POSITION, 4);
    let unsettled = |ledgers: &Ledgers| ledgers.topics[&at("g")].held;
    let consumed = ledgers.commit(&queue, FIRST_POSITION + 1, now);
    assert_eq!((consumed.len(), unsettled(&ledgers)), (1, count - 1));
    let failed = |consumed| FreedMessages { consumed, ..FreedMessages::default() };
    ledgers.put_back(at("g"), failed(consumed));
    assert_eq!(unsettled(&ledgers), count);
    let again = ledgers.commit(&queue, FIRST_POSITION + 1, now);
    assert_eq!(again.len(), 1);
    assert!(ledgers.commit(&queue, FIRST_POSITION + 1, now).is_empty());

    ledgers.put_back(at("g"), failed(again));
    let swept = ledgers.sweep(now).remove(0).1;
    assert_eq!((swept.consumed.len(), swept.iter().count()), (1, 1));
    ledgers.put_back(at("g"), swept);
    let left = ledgers.free_group(Some("g")).remove(0).1;
    assert_eq!((left.consumed.len(), left.maybe_begun.len()), (1, count - 1));
    // The group is gone, and what fails now is still tried again.
    ledgers.put_back(at("g"), left);
    assert_eq!(ledgers.sweep(now).remove(0).1.iter().count(), count);
    assert!(ledgers.topics.is_empty());
}
