//! One suite for every adapter and every mixture of them: nodes in this process, on real sockets, through the public API alone.
//!
//! A test is an async function of a [`Cluster`], which says on which runtime its nodes run. [`conformance!`](macro@crate::conformance) makes a `#[test]` of
//! each, for one kind of cluster. Deadlines are generous, since they are for failures; what is promised is counted rather than timed.

#![allow(missing_docs, reason = "a test's name is its sentence")]

pub mod callers;
pub mod churn;
pub mod errors;
pub mod failover;
mod fleet;
pub mod freshness;
mod liar;
pub mod life;
pub mod limits;
pub mod loading;
pub mod looking;
pub mod lying_peers;
pub mod many;
pub mod measures;
pub mod membership;
mod nodes;
mod origin;
pub mod overload;
pub mod partition;
mod realm;
pub mod registry_faults;
pub mod removal;
pub mod traces;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_std::task::block_on;
use futures_util::future::join_all;

pub use self::nodes::{AnyGroup, Kind};

use self::nodes::AnyServer;
use self::realm::Realm;

/// How long a test waits for what should happen at once.
const SOON: Duration = Duration::from_secs(15);

/// How long a test may take.
const LIMIT: Duration = Duration::from_secs(45);

/// Where a test's nodes come from.
#[derive(Debug)]
pub struct Cluster {
    kinds: &'static [Kind],
    started: Mutex<Vec<AnyServer>>,
    /// What the nodes need to the end.
    kept: Mutex<Vec<Realm>>,
}

impl Cluster {
    /// Nodes take turns on the runtimes of `kinds`: node 0 runs on the first.
    #[must_use]
    pub const fn new(kinds: &'static [Kind]) -> Self {
        Self { kinds, started: Mutex::new(Vec::new()), kept: Mutex::new(Vec::new()) }
    }

    fn kind(&self, node: usize) -> Kind {
        self.kinds[node % self.kinds.len()]
    }

    fn stop_later(&self, server: &AnyServer) {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(server.clone());
    }

    fn keep(&self, realm: Realm) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(realm);
    }
}

/// Runs one test on nodes of `kinds`, outside of any runtime of tokio.
///
/// # Panics
/// When it fails, or takes too long.
pub fn run(
    kinds: &'static [Kind],
    test: impl for<'a> FnOnce(&'a Cluster) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
) {
    let cluster = Cluster::new(kinds);
    block_on(async {
        let ended = async_std::future::timeout(LIMIT, test(&cluster)).await;
        assert!(ended.is_ok(), "the test took more than {LIMIT:?}");
        let started = cluster.started.lock().unwrap_or_else(PoisonError::into_inner).clone();
        join_all(started.iter().map(AnyServer::stop)).await;
    });
}

/// Makes a `#[test]` of every test of the suite, on nodes that take turns on the given runtimes.
#[macro_export]
macro_rules! conformance {
    ($($kind:ident),+) => {
        $crate::conformance! { @each [$($kind),+]
            loading: [
                one_load_for_any_number_of_callers
                every_key_is_loaded_once_and_by_its_owner
                a_peers_request_is_served_where_it_arrives
                disagreeing_lists_neither_loop_nor_deadlock
                a_value_says_where_it_came_from
                the_empty_value_is_a_value
                a_mismatch_of_rings_is_answered_from_cache_and_origin_and_counted
            ]
            many: [
                many_keys_are_answered_in_their_order
                many_keys_of_one_owner_leave_in_one_message
                each_of_many_keys_has_its_own_error
                of_many_keys_those_in_time_are_answered
                a_dropped_get_of_many_leaves_no_waiter_and_harms_no_other
            ]
            removal: [
                a_removal_reaches_every_node
                a_load_under_way_at_a_removal_serves_who_waits_and_enters_no_cache
                nobody_joins_a_load_that_began_before_a_removal
                no_node_returns_a_removed_version_after_the_acknowledgement
                a_removal_names_the_member_that_is_down
                a_flush_forgets_all_keys_of_its_group_and_of_no_other
                a_flush_fences_loads_under_way
            ]
            errors: [
                not_found_crosses_the_wire
                a_failed_origin_crosses_the_wire_with_its_words
                an_invalid_key_crosses_the_wire
                a_value_too_large_for_its_owner_names_the_limit
                a_value_too_large_for_who_asks_names_the_limit
                an_owner_without_the_group_is_passed_over
                not_found_is_kept_for_its_time_and_asked_once
                a_failure_of_the_origin_is_not_retried_elsewhere
                a_failure_of_the_origin_is_not_kept
                a_scan_of_missing_keys_takes_no_place_from_values
            ]
            failover: [
                a_dead_owner_has_one_successor_that_loads
                an_owner_that_is_back_gets_its_keys_back
                a_silent_peer_costs_one_probe
                a_peer_that_speaks_garbage_costs_one_probe
                a_peer_that_hangs_up_costs_one_probe
                a_member_that_never_was_costs_one_probe
                a_successor_that_is_asked_keeps_the_value_as_a_hot_copy
                with_owner_and_successor_gone_the_local_origin_is_asked
            ]
            limits: [
                too_many_loads_are_refused_at_once
                too_many_waiters_are_refused_at_once
                a_full_owner_is_passed_over
                a_caller_with_a_deadline_is_answered_in_time_and_leaves_nothing
                a_remote_caller_with_a_deadline_is_answered_in_time_and_leaves_nothing
                a_dropped_get_leaves_no_waiter
                a_load_that_nobody_waits_for_is_finished_by_default
                a_load_that_nobody_waits_for_is_stopped_on_demand
                the_owner_stops_its_load_when_the_remote_caller_leaves
                the_owner_stops_its_load_when_the_remote_callers_time_is_over
                an_owner_that_is_slow_is_not_taken_for_dead
                a_caller_that_stays_keeps_the_load_of_one_that_left
                a_panicking_retriever_harms_nothing_else
                a_hanging_retriever_harms_nothing_else
                a_retriever_that_returns_after_everyone_left_harms_nothing
            ]
            freshness: [
                values_expire_after_their_time
                a_hot_copy_does_not_outlive_the_owners_value
                a_hot_copy_lives_for_the_hot_ttl_at_most
                hot_copies_are_kept_without_dice_and_take_no_place_from_own_keys
                a_time_to_live_has_the_jitter_that_was_asked_for_and_no_more
                an_expired_value_is_served_while_it_is_loaded_anew
                an_expired_value_is_served_when_its_reload_fails
                nothing_is_served_beyond_the_ceiling_of_staleness
            ]
            life: [
                a_node_that_never_started_stops
                stopping_twice_is_stopping_once
                stops_at_the_same_time_all_return
                a_stop_lets_a_load_finish
                a_stop_fails_what_does_not_finish
                a_stop_that_was_dropped_can_be_made_again
                a_stop_during_the_start_ends_in_a_stopped_node
                a_start_dropped_at_any_poll_ends_in_a_node_that_stops
                a_node_listens_where_it_was_told_and_nowhere_else
                a_stopped_node_has_no_connection_left
                a_stopped_node_answers_what_it_has_and_fails_the_rest
                a_stopped_node_says_that_it_can_remove_no_more
                a_stopped_node_does_not_start
                a_running_node_does_not_start
                a_busy_port_is_a_typed_error_and_can_be_retried
                a_node_that_never_started_serves_alone
            ]
            membership: [
                a_group_is_made_once
                a_destroyed_group_is_gone_and_can_be_made_again
                a_new_list_of_peers_moves_ownership
                nodes_find_each_other_through_a_registry
                in_a_large_fleet_a_peer_is_dialled_when_it_is_first_asked
                in_a_large_fleet_a_removal_reaches_members_that_were_never_asked
            ]
            churn: [
                joins_and_leaves_under_load_show_in_no_answer
            ]
            looking: [
                a_load_in_progress_and_what_became_of_it_are_told_by_who_asks_and_by_who_is_asked
                errors_are_told_with_the_peer_and_the_key_and_a_storm_of_them_is_one
            ]
            callers: [
                a_get_dropped_at_any_poll_leaves_nothing
                a_get_dropped_at_any_poll_behind_a_dial_leaves_nothing
                a_removal_dropped_at_any_poll_reaches_everybody_all_the_same
                a_retriever_that_blocks_its_thread_holds_up_nobody_else
            ]
            overload: [
                a_group_loads_no_more_than_its_limit_at_a_time
                a_full_owner_refuses_at_once
                a_value_too_large_is_a_typed_error_both_ways_and_spoils_no_other
            ]
            partition: [
                a_peer_that_freezes_is_got_past
                a_peer_that_refuses_is_got_past
                a_peer_that_is_cut_off_and_hangs_up_is_got_past
                a_cut_of_all_connections_shows_in_no_answer_and_is_mended_at_once
                all_gets_of_a_peers_keys_share_one_connection
                connections_that_the_network_has_forgotten_are_replaced
                a_removal_past_a_frozen_owner_is_bounded_and_reaches_everybody_else
                a_network_that_is_slow_is_not_taken_for_a_dead_one
                a_node_that_can_call_and_not_be_called_is_served_by_the_others
                nodes_that_are_apart_serve_alone_and_agree_again_when_they_meet
                a_member_that_missed_a_removal_shows_the_old_value_for_the_hot_ttl_at_most
                a_stop_amid_a_partition_comes_to_an_end_and_fails_who_waits
                a_full_queue_to_a_peer_is_passed_over_at_once
                whatever_befalls_the_network_shows_in_no_answer
            ]
            lying_peers: [
                answers_to_what_was_not_asked_are_ignored
                a_key_is_answered_once
                more_answers_than_questions_do_no_harm
                answers_for_another_key_of_the_batch_answer_that_key_only
                an_answer_that_is_empty_or_of_an_unknown_kind_is_no_value
                an_absurd_time_to_live_is_cut_to_that_of_hot_copies
                bytes_that_are_no_message_are_no_answer_and_open_the_breaker
                garbage_behind_a_good_beginning_is_no_answer
                half_a_message_and_then_silence_opens_the_breaker
                replies_without_an_answer_for_ever_end_with_the_callers_patience
                what_is_said_after_the_last_answer_is_not_listened_to
                the_owner_is_told_the_time_that_is_left_less_a_margin
            ]
            measures: [
                nodes_of_one_process_publish_by_themselves_each_to_its_own_recorder
            ]
            traces: [
                a_get_is_one_trace_up_to_the_owners_origin
                keys_that_leave_in_one_message_keep_their_own_traces
                a_node_that_does_not_trace_serves_one_that_does_and_the_other_way_round
            ]
            registry_faults: [
                an_etcd_that_dies_and_comes_back_is_missed_by_no_caller
                an_etcd_that_lost_its_data_gets_the_records_back_and_empties_no_ring
                an_etcd_that_freezes_is_missed_by_no_caller
                a_watch_that_is_cut_again_and_again_misses_nothing
                a_watch_on_a_connection_that_the_network_has_forgotten_is_opened_anew
                members_that_change_while_etcd_is_away_for_one_node_are_seen_after
                members_that_change_while_etcd_is_frozen_for_one_node_are_seen_after
                a_watch_that_comes_back_behind_a_compaction_lists_again
                a_member_whose_lease_is_revoked_puts_its_record_again
                records_that_are_deleted_all_at_once_empty_no_ring
                a_node_that_starts_without_etcd_serves_alone_and_joins_when_it_comes
                a_node_stops_whatever_has_become_of_etcd
                a_node_that_starts_and_stops_without_etcd_comes_to_an_end
                a_stop_during_a_start_leaves_no_record
                a_node_that_stops_leaves_etcd_first_and_then_drains
                an_etcd_that_hangs_up_on_everybody_is_dialled_with_patience
            ]
        }
    };
    (@each $kinds:tt $($module:ident: [$($test:ident)*])*) => {
        $(mod $module {
            $($crate::conformance! { @one $kinds $module $test })*
        })*
    };
    (@one [$($kind:ident),+] $module:ident $test:ident) => {
        #[test]
        fn $test() {
            let kinds = &[$($crate::conformance::Kind::$kind),+];
            $crate::conformance::run(kinds, |cluster| Box::pin($crate::conformance::$module::$test(cluster)));
        }
    };
}
