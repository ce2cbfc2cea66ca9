//! TLS between nodes on this runtime.

#![cfg(feature = "tls")]

#[path = "../../runtime/tests/support/authority.rs"]
mod authority;
#[path = "../../runtime/tests/support/secured.rs"]
mod secured;

use std::future::Future;
use std::time::Duration;

use groupcache_tokio::Tokio;

/// How long a test may take.
const LIMIT: Duration = Duration::from_secs(100);

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(LIMIT, test).await })
        .expect("an end within the limit");
}

secured! { run, Tokio:
    a_fleet_over_mutual_tls_serves_remote_gets
    one_certificate_with_a_common_name_serves_all_members
    a_node_without_a_certificate_is_refused
    a_node_with_a_certificate_of_a_foreign_authority_is_refused
    a_node_with_an_expired_certificate_is_refused
    a_node_with_a_certificate_for_another_host_is_refused
    a_node_in_plain_text_is_refused_and_the_log_says_what_it_speaks
    a_removal_is_taken_from_members_only
    members_show_their_token_and_who_has_none_is_refused
    certificates_that_change_are_read_anew_without_a_restart
    a_handshake_that_never_ends_holds_up_nobody
    a_security_that_panics_refuses_and_wedges_nothing
}
