//! Tests of the order, the limits and the retries of messages.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { concurrency: 2, max_messages: 16, max_bytes: 1 << 20, max_rate: None };

fn dispatch(limits: Limits) -> Dispatch<u32> {
    Dispatch::new(limits, Instant::now())
}

fn group(name: impl Into<String>) -> Option<Sequence> {
    Some(Sequence::Group { topic: "t".into(), group: name.into() })
}

/// Hands out all messages that may be handed out now.
fn hand_out(dispatch: &mut Dispatch<u32>, now: Instant) -> Vec<(Key, u32)> {
    std::iter::from_fn(|| dispatch.next(now).map(|(key, item)| (key, *item))).collect()
}

fn items(handed_out: &[(Key, u32)]) -> Vec<u32> {
    handed_out.iter().map(|(_, item)| *item).collect()
}

fn settle(dispatch: &mut Dispatch<u32>, key: Key) {
    dispatch.finish_handling(key);
    dispatch.remove(key);
}

#[test]
fn the_number_of_messages_handled_at_a_time_is_limited() {
    let (mut dispatch, now) = (dispatch(LIMITS), Instant::now());
    for item in 0..5 {
        dispatch.insert(item, 1, None);
    }
    let first = hand_out(&mut dispatch, now);
    assert_eq!(items(&first), [0, 1]);
    dispatch.finish_handling(first[1].0);
    // A message that is being settled does not count.
    assert_eq!(items(&hand_out(&mut dispatch, now)), [2]);
    assert_eq!(dispatch.unfinished(), 3);
}

#[test]
fn a_message_waits_only_for_earlier_messages_of_its_group() {
    let (mut dispatch, now) = (dispatch(Limits { concurrency: 9, ..LIMITS }), Instant::now());
    for (item, of) in [(0, "a"), (1, "a"), (2, "b"), (3, "a")] {
        dispatch.insert(item, 1, group(of));
    }
    let first = hand_out(&mut dispatch, now);
    assert_eq!(items(&first), [0, 2]);
    dispatch.finish_handling(first[0].0);
    assert!(hand_out(&mut dispatch, now).is_empty(), "not settled yet");
    dispatch.remove(first[0].0);
    assert_eq!(items(&hand_out(&mut dispatch, now)), [1]);
}

#[test]
fn a_retry_is_handed_out_when_due_and_before_later_messages_of_its_group() {
    let (mut dispatch, now) = (dispatch(LIMITS), Instant::now());
    dispatch.insert(0, 1, group("a"));
    dispatch.insert(1, 1, group("a"));
    let key = hand_out(&mut dispatch, now)[0].0;
    dispatch.finish_handling(key);
    let later = now + Duration::from_secs(5);
    dispatch.retry_at(key, later);
    assert!(hand_out(&mut dispatch, now).is_empty());
    assert_eq!(dispatch.available_at(now), Some(later));
    assert_eq!(hand_out(&mut dispatch, later), [(key, 0)]);
    settle(&mut dispatch, key);
    assert_eq!(items(&hand_out(&mut dispatch, later)), [1]);
}

#[test]
fn a_message_that_is_put_back_is_handed_out_next() {
    let limits = Limits { max_rate: Some(1.0), ..LIMITS };
    let (mut dispatch, now) = (dispatch(limits), Instant::now());
    for (item, of) in [(0, "a"), (1, "b"), (2, "a")] {
        dispatch.insert(item, 1, group(of));
    }
    for _ in 0..2 {
        let first = hand_out(&mut dispatch, now);
        assert_eq!(items(&first), [0], "one per second");
        assert_eq!(dispatch.put_back(first[0].0), Some(&mut 0));
        assert_eq!(dispatch.put_back(first[0].0), None);
        assert_eq!(dispatch.unfinished(), 0);
    }
    let first = hand_out(&mut dispatch, now);
    settle(&mut dispatch, first[0].0);
    let later = hand_out(&mut dispatch, now + Duration::from_secs(1));
    assert_eq!(items(&later), [1]);
}

#[test]
fn losing_a_message_discards_the_later_messages_of_its_group() {
    let (mut dispatch, now) = (dispatch(LIMITS), Instant::now());
    let keys: Vec<_> = (0..4).map(|item| dispatch.insert(item, 1, group("a"))).collect();
    dispatch.insert(9, 1, group("b"));
    assert_eq!(dispatch.discard_from(keys[2]), [2, 3]);
    assert_eq!(items(&hand_out(&mut dispatch, now)), [0, 9]);
    // The message is being handled, so it is removed when that is done.
    assert_eq!(dispatch.discard_from(keys[0]), [1]);
    dispatch.insert(10, 1, group("a"));
    assert!(hand_out(&mut dispatch, now).is_empty());
    settle(&mut dispatch, keys[0]);
    assert_eq!(items(&hand_out(&mut dispatch, now)), [10]);
}

#[test]
fn polls_ask_for_what_fits() {
    let few = Limits { max_messages: 10, ..LIMITS };
    let small = Limits { max_messages: 1000, max_bytes: 1000, ..LIMITS };
    for (limits, polls, cached, wanted, given) in [
        (few, 1, &[][..], 32, Some(10)),
        (few, 1, &[], 4, Some(4)),
        (few, 4, &[], 32, Some(3)),
        (few, 20, &[], 32, Some(1)),
        (few, 1, &[1; 9], 32, Some(1)),
        (few, 1, &[1; 10], 32, None),
        // The sizes are not known yet.
        (small, 1, &[], 32, Some(1)),
        (small, 1, &[10; 100], 32, None),
        (small, 1, &[1000], 32, None),
        (Limits { max_bytes: 64 << 20, ..small }, 1, &[], 32, Some(32)),
    ] {
        let mut dispatch = dispatch(limits);
        (0..polls).for_each(|_| dispatch.add_poll());
        for size in cached {
            dispatch.insert(0, *size, group("a"));
        }
        // One message of the group is being handled, so that none is ready.
        hand_out(&mut dispatch, Instant::now());
        assert_eq!(dispatch.reserve(wanted), given, "{limits:?} {polls} {cached:?} {wanted}");
    }
}

#[test]
fn polls_leave_room_for_each_other() {
    let mut dispatch = dispatch(LIMITS);
    (0..4).for_each(|_| dispatch.add_poll());
    let given: Vec<_> = (0..5).map(|_| dispatch.reserve(32)).collect();
    assert_eq!(given, [Some(4), Some(4), Some(4), Some(4), None]);
    dispatch.release(4);
    assert_eq!(dispatch.reserve(32), Some(4));
}

#[test]
fn no_poll_asks_for_a_single_message_while_messages_wait() {
    let mut dispatch = dispatch(Limits { max_messages: 80, ..LIMITS });
    dispatch.add_poll();
    for item in 0..71 {
        dispatch.insert(item, 1, None);
    }
    assert!(!dispatch.has_room(32), "only 9 of 80 are free");
    let key = hand_out(&mut dispatch, Instant::now())[0].0;
    settle(&mut dispatch, key);
    assert_eq!(dispatch.reserve(32), Some(10));
}

#[test]
fn a_paused_consumer_hands_out_and_requests_no_messages() {
    let (mut dispatch, now) = (dispatch(LIMITS), Instant::now());
    dispatch.insert(0, 1, None);
    dispatch.pause();
    assert!(dispatch.is_paused() && dispatch.reserve(1).is_none());
    assert!(hand_out(&mut dispatch, now).is_empty() && dispatch.available_at(now).is_none());
    dispatch.resume();
    assert_eq!(items(&hand_out(&mut dispatch, now)), [0]);
}

#[test]
fn the_rate_is_limited() {
    let start = Instant::now();
    let limits = Limits { max_rate: Some(1.0), concurrency: 9, ..LIMITS };
    let mut dispatch = Dispatch::new(limits, start);
    for item in 0..3 {
        dispatch.insert(item, 1, None);
    }
    assert_eq!(items(&hand_out(&mut dispatch, start)), [0]);
    let next = dispatch.available_at(start).unwrap();
    assert!(next >= start + Duration::from_secs(1));
    assert_eq!(items(&hand_out(&mut dispatch, next)), [1]);
}

#[test]
fn a_close_removes_waiting_messages() {
    let (mut dispatch, now) = (dispatch(Limits { concurrency: 1, ..LIMITS }), Instant::now());
    for (item, of) in [(0, "a"), (1, "a"), (2, "b")] {
        dispatch.insert(item, 1, group(of));
    }
    let key = hand_out(&mut dispatch, now)[0].0;
    assert_eq!(dispatch.close(), [1, 2]);
    assert_eq!((dispatch.unfinished(), dispatch.reserve(1)), (1, None));
    settle(&mut dispatch, key);
    assert_eq!(dispatch.unfinished(), 0);
}

#[test]
fn chosen_messages_that_wait_are_removed() {
    let (mut dispatch, now) = (dispatch(LIMITS), Instant::now());
    for (item, of) in [(0, "a"), (1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        dispatch.insert(item, 1, group(of));
    }
    let handled = hand_out(&mut dispatch, now);
    assert_eq!(items(&handled), [0, 3]);
    // Message 3 waits for its retry.
    dispatch.finish_handling(handled[1].0);
    dispatch.retry_at(handled[1].0, now);
    assert_eq!(dispatch.discard_waiting(|item| [0, 1, 3].contains(item)), [1, 3]);
    assert_eq!(items(&hand_out(&mut dispatch, now)), [4]);
    settle(&mut dispatch, handled[0].0);
    assert_eq!(items(&hand_out(&mut dispatch, now)), [2]);
}

#[derive(Clone, Debug)]
enum Event {
    Poll { brings: usize, group: u8 },
    HandOut,
    Settle(prop::sample::Index),
    SettleFirst,
    Retry(prop::sample::Index),
    PutBack(prop::sample::Index),
    Lose(prop::sample::Index),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..8usize, 0..4u8).prop_map(|(brings, group)| Event::Poll { brings, group }),
        Just(Event::HandOut),
        any::<prop::sample::Index>().prop_map(Event::Settle),
        any::<prop::sample::Index>().prop_map(Event::Retry),
        any::<prop::sample::Index>().prop_map(Event::PutBack),
        any::<prop::sample::Index>().prop_map(Event::Lose),
        (1..20u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn order_and_limits_hold_whatever_happens(events in prop::collection::vec(event(), 0..200)) {
        let limits = Limits { concurrency: 3, max_messages: 12, ..LIMITS };
        let mut now = Instant::now();
        let mut dispatch = Dispatch::new(limits, now);
        dispatch.add_poll();
        // Messages are (group, number in the group); group 3 stands for messages without a group.
        let (mut inserted, mut lost) = ([0u32; 4], 0);
        let mut settled: Vec<(u8, u32)> = Vec::new();
        let mut handling: Vec<(Key, (u8, u32))> = Vec::new();
        // In the end all messages are settled.
        let settle_all = (0..100).flat_map(|_| [Event::Pass(20), Event::HandOut, Event::SettleFirst]);
        for event in events.into_iter().chain(settle_all) {
            match event {
                Event::Poll { brings, group: of } => {
                    if let Some(room) = dispatch.reserve(brings.max(1)) {
                        for _ in 0..brings.min(room) {
                            let sequence = (of < 3).then(|| group(of.to_string())).flatten();
                            dispatch.insert((of, inserted[usize::from(of)]), 1, sequence);
                            inserted[usize::from(of)] += 1;
                        }
                        dispatch.release(room);
                    }
                }
                Event::HandOut => {
                    if let Some((key, item)) = dispatch.next(now) {
                        handling.push((key, *item));
                    }
                }
                Event::Settle(_) | Event::SettleFirst if !handling.is_empty() => {
                    let at = if let Event::Settle(at) = event { at.index(handling.len()) } else { 0 };
                    let (key, item) = handling.swap_remove(at);
                    dispatch.finish_handling(key);
                    dispatch.remove(key);
                    settled.push(item);
                }
                Event::Retry(at) if !handling.is_empty() => {
                    let (key, _) = handling.swap_remove(at.index(handling.len()));
                    dispatch.finish_handling(key);
                    dispatch.retry_at(key, now + Duration::from_secs(3));
                }
                Event::PutBack(at) if !handling.is_empty() => {
                    let (key, _) = handling.swap_remove(at.index(handling.len()));
                    dispatch.put_back(key);
                }
                Event::Lose(at) if !handling.is_empty() => {
                    lost += dispatch.discard_from(handling[at.index(handling.len())].0).len();
                }
                Event::Pass(seconds) => now += Duration::from_secs(seconds),
                _ => {}
            }
            prop_assert!(handling.len() <= limits.concurrency);
            prop_assert!(dispatch.entries.len() <= limits.max_messages);
            for of in 0..3u8 {
                let together = handling.iter().filter(|(_, (group, _))| *group == of).count();
                prop_assert!(together <= 1, "{} of group {} at a time", together, of);
            }
        }
        for of in 0..3u8 {
            let order: Vec<_> = settled.iter().filter(|(group, _)| *group == of).map(|(_, at)| *at).collect();
            prop_assert!(order.is_sorted(), "{:?}", order);
        }
        prop_assert_eq!(settled.len() + lost, inserted.iter().sum::<u32>() as usize);
        prop_assert_eq!((dispatch.unfinished(), dispatch.cache.bytes, dispatch.cache.reserved), (0, 0, 0));
        prop_assert!(dispatch.sequences.is_empty() && dispatch.retries.is_empty());
    }
}
