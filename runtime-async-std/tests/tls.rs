//! TLS between nodes on this runtime.

#![cfg(feature = "tls")]

#[path = "../../runtime/tests/support/authority.rs"]
mod authority;
#[path = "../../runtime/tests/support/secured.rs"]
mod secured;

use std::future::{Future, poll_fn};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use groupcache_async_std::{AsyncStd, BoxFuture, Connection, Listener, Runtime};

/// How long a test may take.
const LIMIT: Duration = Duration::from_secs(100);

fn run(test: impl Future<Output = ()>) {
    async_std::task::block_on(async_std::future::timeout(LIMIT, test)).expect("an end within the limit");
}

/// rustls is driven through tokio's IO traits, which need no runtime of it.
#[test]
fn tls_enters_no_tokio_runtime() {
    run(async {
        secured::a_fleet_over_mutual_tls_serves_remote_gets::<Watched>().await;
        assert!(tokio::runtime::Handle::try_current().is_err(), "the caller runs inside tokio");
    });
    assert!(SPAWNED.load(Ordering::SeqCst) > 4, "tasks were watched");
    assert_eq!(INSIDE.load(Ordering::SeqCst), 0, "polls inside a runtime of tokio");
}

static SPAWNED: AtomicUsize = AtomicUsize::new(0);
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// async-std, with an eye on every poll of every task.
#[derive(Clone, Copy, Debug, Default)]
struct Watched;

impl Runtime for Watched {
    fn spawn(&self, mut task: BoxFuture<'static, ()>) {
        SPAWNED.fetch_add(1, Ordering::SeqCst);
        AsyncStd.spawn(Box::pin(poll_fn(move |cx| {
            let before = tokio::runtime::Handle::try_current().is_ok();
            let polled = task.as_mut().poll(cx);
            let after = tokio::runtime::Handle::try_current().is_ok();
            INSIDE.fetch_add(usize::from(before || after), Ordering::SeqCst);
            polled
        })));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        AsyncStd.sleep(duration)
    }

    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        AsyncStd.connect(addr)
    }

    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        AsyncStd.listen(addr)
    }
}

secured! { run, AsyncStd:
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
