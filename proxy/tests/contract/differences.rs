//! Cases that fail on Apache's brokers, and the reasons. A listed case that passes fails the suite, so that the list
//! stays up to date.

/// How often a case fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fails {
    Always,
    /// Depends on the timing of the broker.
    Sometimes,
}
use Fails::{Always, Sometimes};

const BLOCKED_QUEUE: &str = "a lease in order blocks the whole queue, not only its message group";

/// Cases by module and name, and why they fail on Apache's brokers.
const DIFFERENCES: &[(&str, Fails, &str)] = &[
    (
        "metadata::a_group_keeps_its_configuration",
        Always,
        "the multiplier of growing pauses is a whole number",
    ),
    (
        "fifo::an_unsettled_batch_is_redelivered_in_order",
        Always,
        "messages acknowledged after an unacknowledged one are redelivered",
    ),
    ("fifo::message_groups_do_not_block_each_other", Always, BLOCKED_QUEUE),
    ("fifo::blocked_messages_survive_a_restart", Always, BLOCKED_QUEUE),
    ("fifo::a_message_group_is_unblocked_when_no_message_has_a_lease", Always, BLOCKED_QUEUE),
    (
        "offsets::a_pull_ends_at_its_deadline",
        Sometimes,
        "brokers check waiting pulls every five seconds, which is longer than the backend waits for an answer",
    ),
    ("settling::a_dead_letter_moves_to_its_own_topic", Always, "each move creates another copy"),
    (
        "settling::a_dead_letter_names_its_origin",
        Always,
        "these versions do not write the properties for the origin",
    ),
    (
        "settling::receipt_handles_of_a_deleted_topic_are_invalid",
        Sometimes,
        "a handle does not identify one of several topics with the same name",
    ),
    (
        "polling::a_deleted_group_ends_the_wait",
        Always,
        "waiting polls do not notice that their group was deleted",
    ),
    (
        "polling::many_producers_and_impatient_consumers_lose_nothing",
        Sometimes,
        "abandoned polls stay with the broker until they time out, and count towards the limit of 1024",
    ),
    (
        "receiving::higher_priorities_are_delivered_first",
        Sometimes,
        "the order holds within one pop, and a pop does not wait for messages that are still being stored",
    ),
    ("lite::a_client_chooses_where_its_group_starts", Always, "a start time is ignored"),
    (
        "lite::subscribers_share_a_lite_topic",
        Sometimes,
        "abandoned polls stay with the broker until they time out, and get messages, which count as delivered",
    ),
    (
        "lite::only_subscribed_lite_topics_are_delivered_each_in_order",
        Sometimes,
        "a client that unsubscribes from a lite topic may still get its next message, if the broker was about to read it",
    ),
    (
        "lite::an_abandoned_lite_receive_loses_nothing",
        Sometimes,
        "abandoned polls stay with the broker until they time out, and get messages, which count as delivered",
    ),
    (
        "lite::the_same_attempt_gets_its_messages_again",
        Sometimes,
        "a poll reads only lite topics with new events, and a lost response is not an event",
    ),
    (
        "lite::a_deletion_ends_the_wait_for_lite_topics",
        Always,
        "waiting polls do not notice that their group was deleted",
    ),
    ("delay::a_delayed_message_is_not_delivered_early", Sometimes, "the timer's precision is a second"),
    ("delay::a_batch_may_have_delayed_messages", Sometimes, "the timer's precision is a second"),
    (
        "delay::delayed_messages_are_delivered_in_order_of_time",
        Sometimes,
        "the timer's precision is a second",
    ),
];

/// Further cases that fail on brokers before 5.5.0.
const OF_OLDER_BROKERS: &[(&str, Fails, &str)] = &[
    (
        "settling::a_suspended_lease_does_not_count",
        Always,
        "`suspend` is unknown there: every delivery counts",
    ),
    (
        "polling::a_dropped_receive_loses_nothing",
        Sometimes,
        "a message that is given back is redelivered after about ten seconds, which is longer than the case waits",
    ),
];

/// All cases of lite topics, which older brokers do not support.
const NO_LITE_TOPICS: (&str, Fails, &str) = ("lite::", Always, "there are no topics of the type LITE");

/// The environment variable with the version of the brokers, if it is not the newest.
const VERSION: &str = "CONTRACT_BROKERS";

/// Runs a case on real brokers. It must pass unless it is listed.
///
/// An unlisted case that fails is run a second time, because brokers check their queues at intervals and share the
/// machine with the suite. A bug of the backend fails twice.
#[expect(clippy::print_stderr, reason = "the output of a test")]
pub(crate) async fn play<C: Future<Output = ()> + Send + 'static>(name: &str, case: impl Fn() -> C) {
    let is_older = std::env::var_os(VERSION).is_some();
    let of_older = if is_older { OF_OLDER_BROKERS } else { &[] };
    let known = DIFFERENCES.iter().chain(of_older).find(|(case, ..)| *case == name);
    let known = if is_older && name.starts_with("lite::") { Some(&NO_LITE_TOPICS) } else { known };
    let mut outcome = tokio::spawn(case()).await;
    if outcome.is_err() && known.is_none() {
        eprintln!("{name} failed and is run again");
        outcome = tokio::spawn(case()).await;
    }
    match (outcome, known) {
        (Ok(()), None | Some((_, Sometimes, _))) => {}
        (Err(_), Some(_)) => {}
        (Ok(()), Some((_, Always, reason))) => {
            panic!("{name} passes, but is listed as failing: {reason}")
        }
        (Err(failed), None) => std::panic::resume_unwind(failed.into_panic()),
    }
}
