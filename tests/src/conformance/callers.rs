//! Callers that leave at any moment, and retrievers that hold up the thread they run on.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, join};

use super::Cluster;
use super::fleet::{Fleet, Node, Options, wait_for, within};
use super::origin::{Gate, Origin, value_of};
use crate::Proxy;

/// Polls `inner` so often, and no more: `None` when it was not done by then.
struct Polled<F> {
    inner: F,
    left: usize,
}

impl<F: Future + Unpin> Future for Polled<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match Pin::new(&mut self.inner).poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // It has been polled for the last time: whoever polls it now drops it.
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Every way to ask for a value.
type Ask = for<'a> fn(&'a Node, &'a str) -> BoxFuture<'a, String>;

const ASKS: [Ask; 3] = [
    |node, key| async move { node.value(key).await }.boxed(),
    |node, key| async move { text(node.group.get_within(key, Duration::from_secs(20)).await) }.boxed(),
    |node, key| async move { text(node.group.lookup(key).await.map(|found| found.value)) }.boxed(),
];

fn text(value: Result<groupcache_runtime::ByteView, groupcache_runtime::Error>) -> String {
    value.expect("a value").to_string()
}

/// Asks for keys with `prefix`, and drops the first get before its first poll, the next after its first, and so on, until one is polled to its end.
/// After each drop nobody waits, and after a while nothing is under way. Answers how many were dropped.
async fn dropped_at_every_poll(
    fleet: &Fleet<'_>,
    keys: &[String],
    ask: Ask,
    after_drop: impl AsyncFn(),
) -> usize {
    let asker = &fleet[0];
    for (polls, key) in keys.iter().enumerate() {
        let answer = within("a get", Polled { inner: ask(asker, key), left: polls }).await;
        assert_eq!(asker.stat("waiters"), 0, "after {polls} polls of a get");
        after_drop().await;
        for node in fleet.iter() {
            node.is_quiet().await;
        }
        if let Some(value) = answer {
            assert_eq!(value, value_of(key));
            return polls;
        }
        // Whoever comes after who left is served.
        assert_eq!(asker.value(key).await, value_of(key), "after {polls} polls of another get");
    }
    panic!("a get is not done after {} polls", keys.len());
}

pub async fn a_get_dropped_at_any_poll_leaves_nothing(cluster: &Cluster) {
    // A load takes a moment, so that a get has something to wait for.
    let origin = Origin::new(|call| async move {
        async_std::task::sleep(Duration::from_millis(5)).await;
        Ok(value_of(&call.key).into())
    });
    let fleet = cluster.fleet(2, Options::default(), origin).await;
    for owner in 0..2 {
        for (index, ask) in ASKS.into_iter().enumerate() {
            let keys = fleet.keys_of(owner, &format!("dropped {index}"), 50);
            let dropped = dropped_at_every_poll(&fleet, &keys, ask, async || ()).await;
            assert!(dropped >= 2, "a miss waits at least once");
        }
    }
}

pub async fn a_get_dropped_at_any_poll_behind_a_dial_leaves_nothing(cluster: &Cluster) {
    for ask in ASKS {
        // The owner is there, and for as long as its proxy is frozen nobody can have connected to it.
        let listen = Cluster::addrs(1).remove(0);
        let proxy = Proxy::start(&listen);
        let mut options = Options::default();
        options.link.connect_timeout = Duration::from_secs(20);
        let mut fleet = cluster.fleet(1, options.clone(), Origin::plain()).await;
        fleet.addrs.push(proxy.addr().to_owned());
        options.peers = Some(fleet.addrs.clone());
        options.listen = Some(listen);
        let owner = cluster.node(1, proxy.addr(), &options, &fleet.origin);
        within("a start", owner.start()).await.expect("a free port");
        proxy.freeze();
        assert!(fleet[0].set_peers(&fleet.addrs));
        wait_for("a ring of two", || fleet[0].ring().members.len() == 2).await;
        let keys = fleet.keys_of(1, "behind a dial", 6);
        // Before the first poll, and while the dial is under way: no more than one poll of a get finds something to do before that.
        for (polls, key) in keys.iter().enumerate().take(3) {
            let mut get = ask(&fleet[0], key);
            for _ in 0..polls {
                assert!(futures_util::poll!(&mut get).is_pending(), "the dial is under way");
            }
            assert_eq!(fleet[0].stat("waiters"), u64::from(polls > 0));
            drop(get);
            assert_eq!(fleet[0].stat("waiters"), 0, "after {polls} polls of a get");
        }
        let mut patient = ask(&fleet[0], &keys[3]);
        assert!(futures_util::poll!(&mut patient).is_pending(), "the dial is under way");
        assert_eq!(fleet.origin.loads(), 0);
        proxy.heal();
        assert_eq!(within("a get", patient).await, value_of(&keys[3]));
        for node in [&fleet[0], &owner] {
            node.is_quiet().await;
        }
        for key in &keys {
            assert_eq!(fleet[0].value(key).await, value_of(key));
            assert_eq!(fleet.origin.loads_of(key), 1, "loads of `{key}`");
        }
        within("a stop", owner.stop()).await;
    }
}

pub async fn a_retriever_that_blocks_its_thread_holds_up_nobody_else(cluster: &Cluster) {
    const LONGEST: Duration = Duration::from_secs(10);
    let done = Gate::default();
    let seen = done.clone();
    let origin = Origin::new(move |call| {
        let done = seen.clone();
        async move {
            if call.key.contains("blocking") {
                // Not an await: the thread is gone until the others have been served, or for ten seconds.
                let started = Instant::now();
                while !done.is_open() && started.elapsed() < LONGEST {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Ok(value_of(&call.key).into())
        }
    });
    let fleet = cluster.fleet(2, Options::default(), origin).await;
    for owner in 0..2 {
        let blocking = fleet.key_of(owner, "blocking");
        let others = async {
            wait_for("a thread that is blocked", || fleet.origin.loads_of(&blocking) == 1).await;
            let started = Instant::now();
            for key in fleet.keys_of(owner, "others", 20) {
                fleet.all_have(&key).await;
            }
            assert!(started.elapsed() < LONGEST / 2, "40 gets took {:?}", started.elapsed());
            done.open();
        };
        let (value, ()) = join(fleet[1 - owner].value(&blocking), pin!(others)).await;
        assert_eq!(value, value_of(&blocking));
        done.shut();
    }
}
