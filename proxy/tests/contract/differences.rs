//! What can't hold on Apache's brokers, and why. A difference that has gone fails.

/// How sure it is that a case fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fails {
    Always,
    /// By the broker's clock or scans.
    Sometimes,
}
use Fails::{Always, Sometimes};

/// Cases by module and name, each with Apache's reason.
const DIFFERENCES: &[(&str, Fails, &str)] = &[
    (
        "metadata::a_group_keeps_its_configuration",
        Always,
        "the multiplier of growing pauses is a whole number",
    ),
    (
        "fifo::an_unsettled_batch_comes_again_in_order",
        Always,
        "what was acknowledged behind a gap comes again",
    ),
    ("settling::a_dead_letter_moves_to_its_own_topic", Always, "each move makes another copy"),
    ("polling::a_deleted_group_ends_the_wait", Always, "polls under way don't see that their group has gone"),
    (
        "polling::many_producers_and_impatient_consumers_lose_nothing",
        Sometimes,
        "abandoned polls stay with the broker until their time is over, and count among the 1024",
    ),
    (
        "receiving::higher_priorities_come_first",
        Sometimes,
        "the order holds within one pop, and a pop does not wait for what is still on its way",
    ),
    ("delay::a_delayed_message_is_not_delivered_early", Sometimes, "the timer's precision is a second"),
    ("delay::a_batch_may_have_delayed_messages", Sometimes, "the timer's precision is a second"),
    ("delay::delayed_messages_come_in_order_of_time", Sometimes, "the timer's precision is a second"),
];

/// The same of brokers before 5.5.0, beside the others.
const OF_OLDER_BROKERS: &[(&str, Fails, &str)] = &[
    (
        "settling::a_suspended_lease_does_not_count",
        Always,
        "`suspend` is not known there: every delivery counts",
    ),
    (
        "polling::a_dropped_receive_loses_nothing",
        Sometimes,
        "what is given back comes again after some ten seconds, which is more than the case waits",
    ),
];

/// Which version the brokers are, if not the newest.
const VERSION: &str = "CONTRACT_BROKERS";

/// Plays a case on real brokers: it must pass, unless it is known that it can't.
pub(crate) async fn play(name: &str, case: impl Future<Output = ()> + Send + 'static) {
    let of_older = if std::env::var_os(VERSION).is_some() { OF_OLDER_BROKERS } else { &[] };
    let known = DIFFERENCES.iter().chain(of_older).find(|(case, ..)| *case == name);
    let outcome = tokio::spawn(case).await;
    match (outcome, known) {
        (Ok(()), None | Some((_, Sometimes, _))) => {}
        (Err(_), Some(_)) => {}
        (Ok(()), Some((_, Always, reason))) => {
            panic!("{name} holds by now, though it is listed to differ: {reason}")
        }
        (Err(failed), None) => std::panic::resume_unwind(failed.into_panic()),
    }
}
