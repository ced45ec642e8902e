//! The contract of a backend, as tests of the service traits. The suite runs on every backend.
//!
//! A case is an async function that gets a fresh [`backend::Backend`]. [`contract!`] turns it into a test for each
//! backend. Cases wait for events (a message, the expiry of a lease), never for time to pass. Further tests cover
//! guarantees that only the embedded backend gives.

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

/// Turns cases into tests for every backend. `cargo x interop contract` starts a cluster and runs the tests that need
/// real brokers.
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
        a_message_is_delivered_unchanged,
        offsets_of_a_queue_have_no_holes,
        a_batch_is_stored_in_order,
        single_messages_rotate_over_the_queues,
        concurrent_sends_are_all_stored,
        a_message_may_combine_the_fields_of_several_types,
        unsupported_message_types_are_refused,
        a_topic_without_write_permission_is_refused,
        a_big_message_is_stored;
    receiving:
        each_message_goes_to_one_consumer,
        each_group_gets_every_message,
        no_more_than_the_maximum_is_delivered,
        a_new_group_starts_at_the_beginning,
        an_unsettled_message_is_redelivered_with_a_higher_attempt,
        all_queues_are_drained,
        a_topic_without_read_permission_is_refused,
        higher_priorities_are_delivered_first;
    settling:
        an_acknowledged_message_is_not_redelivered,
        an_acknowledgement_may_be_repeated,
        deliveries_are_acknowledged_together,
        an_expired_lease_settles_nothing,
        another_group_settles_nothing,
        foreign_coordinates_are_invalid,
        outcomes_are_in_the_order_of_the_entries,
        a_changed_lease_has_new_coordinates,
        a_lease_can_be_ended_at_once,
        a_suspended_lease_does_not_count,
        changing_a_settled_lease_redelivers_nothing,
        a_dead_letter_moves_to_its_own_topic,
        a_dead_letter_names_its_origin,
        receipt_handles_of_a_deleted_topic_are_invalid;
    polling:
        a_waiting_receive_gets_the_next_message,
        waiting_receives_share_new_messages,
        a_waiting_receive_gets_messages_that_become_visible,
        a_dropped_receive_loses_nothing,
        many_producers_and_impatient_consumers_lose_nothing,
        a_stuck_consumer_blocks_only_its_own_messages,
        a_receive_without_messages_succeeds_at_its_deadline,
        a_deleted_topic_ends_the_wait,
        a_deleted_group_ends_the_wait;
    filter:
        only_matching_tags_are_delivered,
        filtered_messages_are_consumed,
        many_filtered_messages_do_not_hide_a_matching_one,
        a_filter_may_have_several_tags,
        an_expression_filters_messages,
        an_expression_is_checked_before_anything_is_received,
        an_expression_searches_strings;
    fifo:
        a_message_group_stays_in_one_queue,
        the_next_message_waits_for_the_acknowledgement,
        a_batch_may_be_acknowledged_in_any_order,
        the_same_attempt_gets_its_batch_again,
        a_changed_lease_begins_with_the_change,
        an_unsettled_batch_is_redelivered_in_order,
        a_suspended_lease_counts,
        a_batch_may_have_several_message_groups,
        message_groups_do_not_block_each_other,
        blocked_messages_survive_a_restart,
        a_message_group_is_unblocked_when_no_message_has_a_lease,
        the_same_attempt_gets_several_message_groups_again,
        a_dead_letter_unblocks_its_message_group,
        messages_without_a_message_group_wait_for_each_other,
        queues_do_not_block_each_other;
    delay:
        a_delayed_message_is_not_delivered_early,
        a_delivery_time_in_the_past_means_at_once,
        delayed_messages_are_delivered_in_order_of_time,
        a_batch_may_have_delayed_messages,
        many_messages_due_at_the_same_time_are_all_delivered;
    lite:
        only_subscribed_lite_topics_are_delivered_each_in_order,
        a_lite_topic_waits_until_its_messages_are_settled,
        an_unsettled_message_is_redelivered_before_later_ones,
        a_waiting_receive_gets_the_first_message_of_a_lite_topic,
        subscribers_share_a_lite_topic,
        an_exclusive_lite_topic_is_taken_over,
        the_same_attempt_gets_its_messages_again,
        a_lite_delivery_becomes_a_dead_letter,
        a_client_chooses_where_its_group_starts,
        an_abandoned_lite_receive_loses_nothing,
        a_deletion_ends_the_wait_for_lite_topics,
        lite_topics_survive_a_restart;
    transactions:
        a_half_message_is_delivered_once_it_is_committed,
        a_message_that_was_rolled_back_is_not_delivered,
        a_committed_message_is_delivered_unchanged,
        half_messages_survive_a_restart,
        coordinates_of_another_backend_are_invalid;
    recall:
        a_recalled_message_is_not_delivered,
        a_recall_may_be_repeated,
        a_delivered_message_can_not_be_recalled,
        a_handle_recalls_only_in_its_own_topic;
    metadata:
        topics_are_created_on_first_use,
        a_topic_is_created_once_unless_replaced,
        topics_and_groups_are_listed_by_name,
        a_deleted_topic_is_empty_when_created_again,
        a_deleted_group_starts_again,
        a_group_keeps_its_configuration,
        a_change_keeps_the_other_settings,
        added_queues_are_used,
        the_route_lists_the_queues;
    administration:
        stored_messages_are_read_without_being_consumed,
        a_group_continues_where_it_was_reset_to,
        a_reset_to_a_missing_queue_or_offset_is_refused;
    offsets:
        messages_are_read_without_leases,
        a_waiting_pull_gets_the_next_message,
        a_pull_ends_at_its_deadline,
        an_offset_outside_the_queue_is_reported,
        a_pull_may_filter,
        a_queue_that_does_not_exist_is_refused,
        a_group_keeps_its_offset,
        the_offsets_of_a_queue_are_returned,
        a_message_that_was_sent_back_is_read_again,
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
        offsets_continue;
}
