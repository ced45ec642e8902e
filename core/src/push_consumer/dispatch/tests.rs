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

/// What may be handed out now, all at once.
fn hand_out(dispatch: &mut Dispatch<u32>, now: Instant) -> Vec<(Key, u32)> {
    std::iter::from_fn(|| dispatch.next(now).map(|(key, item)| (key, *item))).collect()
}

fn items(handed_out: &[(Key, u32)]) -> Vec<u32> {
    handed_out.iter().map(|(_, item)| *item).collect()
}

fn settle(dispatch: &mut Dispatch<u32>, key: Key) {
    dispatch.handled(key);
    dispatch.remove(key);
}

#[test]
fn as_many_are_handled_at_a_time_as_allowed() {
    let (mut dispatch, now) = (dispatch(LIMITS), Instant::now());
    for item in 0..5 {
        dispatch.insert(item, 1, None);
    }
    let first = hand_out(&mut dispatch, now);
    assert_eq!(items(&first), [0, 1]);
    dispatch.handled(first[1].0);
    // Settling takes no place of a handler.
    assert_eq!(items(&hand_out(&mut dispatch, now)), [2]);
    assert_eq!(dispatch.unfinished(), 3);
}

#[test]
fn a_message_waits_for_the_earlier_ones_of_its_group_only() {
    let (mut dispatch, now) = (dispatch(Limits { concurrency: 9, ..LIMITS }), Instant::now());
    for (item, of) in [(0, "a"), (1, "a"), (2, "b"), (3, "a")] {
        dispatch.insert(item, 1, group(of));
    }
    let first = hand_out(&mut dispatch, now);
    assert_eq!(items(&first), [0, 2]);
    dispatch.handled(first[0].0);
    assert!(hand_out(&mut dispatch, now).is_empty(), "not settled yet");
    dispatch.remove(first[0].0);
    assert_eq!(items(&hand_out(&mut dispatch, now)), [1]);
}

#[test]
fn a_retry_comes_at_its_time_and_before_the_later_ones_of_its_group() {
    let (mut dispatch, now) = (dispatch(LIMITS), Instant::now());
    dispatch.insert(0, 1, group("a"));
    dispatch.insert(1, 1, group("a"));
    let key = hand_out(&mut dispatch, now)[0].0;
    dispatch.handled(key);
    let later = now + Duration::from_secs(5);
    dispatch.retry_at(key, later);
    assert!(hand_out(&mut dispatch, now).is_empty());
    assert_eq!(dispatch.available_at(now), Some(later));
    assert_eq!(hand_out(&mut dispatch, later), [(key, 0)]);
    settle(&mut dispatch, key);
    assert_eq!(items(&hand_out(&mut dispatch, later)), [1]);
}

#[test]
fn a_lost_message_takes_the_later_ones_of_its_group_with_it() {
    let (mut dispatch, now) = (dispatch(LIMITS), Instant::now());
    let keys: Vec<_> = (0..4).map(|item| dispatch.insert(item, 1, group("a"))).collect();
    dispatch.insert(9, 1, group("b"));
    assert_eq!(dispatch.lose(keys[2]), [2, 3]);
    assert_eq!(items(&hand_out(&mut dispatch, now)), [0, 9]);
    // It is being handled, so it goes when that is over.
    assert_eq!(dispatch.lose(keys[0]), [1]);
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
        // Nothing is known of the sizes yet.
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
        // One of the group is handled, so that none is ready.
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
fn while_messages_wait_there_is_no_poll_for_a_single_one() {
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
fn while_paused_nothing_is_handed_out_or_asked_for() {
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
fn a_close_removes_what_was_not_begun() {
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

#[derive(Clone, Debug)]
enum Event {
    Poll { brings: usize, group: u8 },
    HandOut,
    Settle(prop::sample::Index),
    SettleFirst,
    Retry(prop::sample::Index),
    Lose(prop::sample::Index),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..8usize, 0..4u8).prop_map(|(brings, group)| Event::Poll { brings, group }),
        Just(Event::HandOut),
        any::<prop::sample::Index>().prop_map(Event::Settle),
        any::<prop::sample::Index>().prop_map(Event::Retry),
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
        // Messages are (group, number in the group); group 3 stands for those without one.
        let (mut inserted, mut lost) = ([0u32; 4], 0);
        let mut settled: Vec<(u8, u32)> = Vec::new();
        let mut handling: Vec<(Key, (u8, u32))> = Vec::new();
        // In the end everything is settled.
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
                    dispatch.handled(key);
                    dispatch.remove(key);
                    settled.push(item);
                }
                Event::Retry(at) if !handling.is_empty() => {
                    let (key, _) = handling.swap_remove(at.index(handling.len()));
                    dispatch.handled(key);
                    dispatch.retry_at(key, now + Duration::from_secs(3));
                }
                Event::Lose(at) if !handling.is_empty() => {
                    lost += dispatch.lose(handling[at.index(handling.len())].0).len();
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
        prop_assert_eq!((dispatch.unfinished(), dispatch.bytes, dispatch.reserved), (0, 0, 0));
        prop_assert!(dispatch.sequences.is_empty() && dispatch.retries.is_empty());
    }
}
