//! What every backend must do, written over the service traits. The suite runs on each backend.
//!
//! A case is an async function that gets a fresh [`backend::Backend`]. [`contract!`] turns it into a test of each
//! backend. Cases wait for events (a message, the end of a lease), never for time to pass.

mod administration;
mod backend;
mod client;
mod configuration;
mod data_directory;
mod delay;
mod differences;
mod disk_full;
mod embedded_transactions;
mod fifo;
mod filter;
mod journal;
mod kill;
mod lite;
mod metadata;
mod offsets;
mod polling;
mod recall;
mod receiving;
mod redelivery;
mod restart;
mod sending;
mod settling;
mod transactions;
mod unwritten_settling;

/// Turns cases into tests of every backend. `cargo x interop contract` starts a cluster and runs those that need real
/// brokers.
macro_rules! contract {
    ($($module:ident: $($case:ident),+ $(,)?);+ $(;)?) => {
        mod remote {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[ignore = "needs real brokers"]
                async fn $case() {
                    let name = concat!(stringify!($module), "::", stringify!($case));
                    crate::differences::play(name, || async {
                        let backend = <crate::backend::Remote as crate::backend::Backend>::start().await;
                        crate::$module::$case(backend).await;
                    })
                    .await;
                })+
            })+
        }
        mod embedded {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let backend = <crate::backend::Embedded as crate::backend::Backend>::start().await;
                    crate::$module::$case(backend).await;
                })+
            })+
        }
    };
}

contract! {
    sending:
        a_message_comes_back_as_it_was_sent,
        offsets_of_a_queue_have_no_holes,
        a_batch_is_stored_in_order,
        single_messages_go_round_the_queues,
        concurrent_sends_are_all_stored,
        a_message_may_have_what_several_kinds_have,
        what_is_not_offered_is_refused,
        a_topic_without_write_permission_is_refused,
        a_big_message_is_stored;
    receiving:
        each_message_goes_to_one_consumer,
        each_group_gets_every_message,
        no_more_than_the_maximum_is_delivered,
        a_new_group_starts_at_the_beginning,
        an_unsettled_message_comes_again_with_a_raised_attempt,
        all_queues_are_drained,
        a_topic_without_read_permission_is_refused,
        higher_priorities_come_first;
    settling:
        an_acknowledged_message_does_not_come_again,
        an_acknowledgement_may_be_repeated,
        deliveries_are_acknowledged_together,
        an_expired_lease_settles_nothing,
        another_group_settles_nothing,
        foreign_coordinates_are_invalid,
        outcomes_come_in_order,
        a_changed_lease_has_new_coordinates,
        a_lease_can_be_ended_at_once,
        a_suspended_lease_does_not_count,
        changing_what_is_settled_brings_nothing_back,
        a_dead_letter_moves_to_its_own_topic,
        a_dead_letter_tells_where_it_was,
        receipts_of_a_deleted_topic_are_invalid;
    polling:
        a_waiting_receive_gets_the_next_message,
        waiting_receives_share_what_arrives,
        a_waiting_receive_gets_what_becomes_visible,
        a_dropped_receive_loses_nothing,
        many_producers_and_impatient_consumers_lose_nothing,
        a_stuck_consumer_holds_up_only_what_it_has,
        nothing_by_the_deadline_is_no_error,
        a_deleted_topic_ends_the_wait,
        a_deleted_group_ends_the_wait;
    filter:
        only_wanted_tags_are_delivered,
        filtered_messages_are_consumed,
        many_unwanted_messages_do_not_hide_a_wanted_one,
        several_tags_may_be_wanted,
        an_expression_selects,
        an_expression_is_checked_before_anything_is_received,
        an_expression_searches_texts;
    fifo:
        a_message_group_stays_in_one_queue,
        the_next_message_waits_for_the_acknowledgement,
        a_batch_may_be_acknowledged_in_any_order,
        the_same_attempt_gets_its_batch_again,
        a_changed_lease_begins_with_the_change,
        an_unsettled_batch_comes_again_in_order,
        a_suspended_lease_counts,
        a_batch_may_have_several_message_groups,
        message_groups_do_not_block_each_other,
        what_waits_for_its_message_group_survives_a_restart,
        a_message_group_is_free_when_nothing_of_it_is_leased,
        the_same_attempt_gets_several_message_groups_again,
        a_dead_letter_unblocks_its_message_group,
        messages_without_a_message_group_wait_for_each_other,
        queues_do_not_block_each_other;
    delay:
        a_delayed_message_is_not_delivered_early,
        the_past_is_at_once,
        delayed_messages_come_in_order_of_time,
        a_batch_may_have_delayed_messages,
        many_delayed_to_the_same_time_all_come;
    lite:
        only_subscribed_lite_topics_are_delivered_each_in_order,
        a_lite_topic_waits_until_its_messages_are_settled,
        an_unsettled_message_comes_again_before_later_ones,
        a_waiting_receive_gets_the_first_message_of_a_lite_topic,
        subscribers_share_a_lite_topic,
        an_exclusive_lite_topic_is_taken_over,
        the_same_attempt_gets_its_messages_again,
        a_lite_delivery_becomes_a_dead_letter,
        a_group_begins_where_its_client_says,
        an_abandoned_lite_receive_loses_nothing,
        what_is_deleted_ends_the_wait_for_lite_topics,
        lite_topics_survive_a_restart;
    transactions:
        a_half_message_comes_once_it_is_committed,
        a_message_that_was_rolled_back_does_not_come,
        a_committed_message_comes_as_it_was_sent,
        half_messages_survive_a_restart,
        coordinates_of_another_backend_are_invalid;
    recall:
        a_recalled_message_does_not_come,
        a_recall_may_be_repeated,
        a_delivered_message_can_not_be_recalled,
        a_handle_recalls_only_in_its_own_topic;
    metadata:
        topics_are_made_when_named,
        a_topic_is_created_once_unless_replaced,
        topics_and_groups_are_listed_by_name,
        a_deleted_topic_is_empty_when_made_again,
        a_deleted_group_starts_again,
        a_group_keeps_its_configuration,
        a_change_keeps_what_it_does_not_name,
        added_queues_are_used,
        the_route_tells_the_queues;
    administration:
        stored_messages_are_read_without_being_consumed,
        a_group_that_is_reset_goes_on_there,
        a_reset_of_what_is_not_there_is_refused;
    offsets:
        messages_are_read_without_leases,
        a_waiting_pull_gets_the_next_message,
        a_pull_ends_at_its_deadline,
        an_offset_outside_the_queue_is_told,
        a_pull_may_filter,
        a_queue_that_does_not_exist_is_refused,
        a_group_keeps_its_offset,
        the_offsets_of_a_queue_are_told,
        what_could_not_be_consumed_is_read_again,
        one_client_of_a_group_locks_a_queue;
    restart:
        messages_survive,
        acknowledgements_survive,
        leases_survive,
        changed_leases_survive,
        attempts_survive,
        ordered_groups_stay_blocked,
        delayed_messages_survive,
        topics_and_groups_survive,
        offsets_go_on;
}
