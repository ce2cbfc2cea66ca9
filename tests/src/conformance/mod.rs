//! One suite for every adapter and every mixture of them: nodes in this process, on real sockets, through the public API alone.
//!
//! A test is an async function of a [`Cluster`], which says on which runtime its nodes run. [`conformance!`](macro@crate::conformance) makes a `#[test]` of
//! each, for one kind of cluster. Deadlines are generous, since they are for failures; what is promised is counted rather than timed.

#![allow(missing_docs, reason = "a test's name is its sentence")]

pub mod errors;
pub mod failover;
mod fleet;
pub mod freshness;
pub mod life;
pub mod limits;
pub mod loading;
pub mod membership;
mod nodes;
mod origin;
pub mod removal;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_std::task::block_on;
use futures_util::future::join_all;

pub use self::nodes::{AnyGroup, Kind};

use self::nodes::AnyServer;

/// How long a test waits for what should happen at once.
const SOON: Duration = Duration::from_secs(15);

/// How long a test may take.
const LIMIT: Duration = Duration::from_secs(45);

/// Where a test's nodes come from.
#[derive(Debug)]
pub struct Cluster {
    kinds: &'static [Kind],
    started: Mutex<Vec<AnyServer>>,
}

impl Cluster {
    /// Nodes take turns on the runtimes of `kinds`: node 0 runs on the first.
    #[must_use]
    pub const fn new(kinds: &'static [Kind]) -> Self {
        Self { kinds, started: Mutex::new(Vec::new()) }
    }

    fn kind(&self, node: usize) -> Kind {
        self.kinds[node % self.kinds.len()]
    }

    fn stop_later(&self, server: &AnyServer) {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(server.clone());
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
            ]
            failover: [
                a_dead_owner_has_one_successor_that_loads
                an_owner_that_is_back_gets_its_keys_back
                a_silent_peer_costs_one_probe
                a_peer_that_speaks_garbage_costs_one_probe
                a_peer_that_hangs_up_costs_one_probe
                a_member_that_never_was_costs_one_probe
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
                joins_and_leaves_under_load_show_in_no_answer
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
