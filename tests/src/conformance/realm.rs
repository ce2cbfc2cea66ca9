//! A real etcd, with a proxy before it, and callers that go on meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_std::task::{JoinHandle, sleep, spawn, spawn_blocking};
use futures_util::future::join_all;

use super::fleet::{Fleet, Node, Options, Registry};
use super::origin::value_of;
use super::{Cluster, SOON};
use crate::{Etcd, Proxy, record};

/// An etcd, and a proxy before it for who is to lose it while others do not. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Realm {
    etcd: Arc<Mutex<Etcd>>,
    url: String,
    pub(super) proxy: Arc<Proxy>,
}

impl Realm {
    pub(super) async fn start(cluster: &Cluster) -> Self {
        let realm = Self::reserved(cluster);
        realm.with(Etcd::restart).await;
        realm
    }

    /// One whose etcd does not run yet.
    pub(super) fn reserved(cluster: &Cluster) -> Self {
        let etcd = Etcd::reserved();
        let url = etcd.url();
        let proxy = Arc::new(Proxy::start(url.trim_start_matches("http://")));
        let realm = Self { etcd: Arc::new(Mutex::new(etcd)), url, proxy };
        // Nodes that still run at the test's end leave it in order, which takes an etcd.
        cluster.keep(realm.clone());
        realm
    }

    /// Does what blocks where that holds nobody up.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Etcd) -> T + Send + 'static,
    ) -> T {
        let etcd = Arc::clone(&self.etcd);
        spawn_blocking(move || act(&mut etcd.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    pub(super) async fn ctl(&self, args: &[&str]) -> String {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        self.with(move |etcd| etcd.ctl(&args)).await
    }

    /// For nodes that reach etcd whatever the proxy does.
    pub(super) fn direct(&self) -> Options {
        Options { registry: Some(Registry::Etcd(self.url.clone())), ..Options::default() }
    }

    pub(super) fn proxied(&self) -> Options {
        Options { registry: Some(Registry::Etcd(self.proxy.addr().to_owned())), ..Options::default() }
    }

    /// Waits until etcd holds the records of exactly these members.
    pub(super) async fn holds(&self, addrs: &[String]) {
        let mut wanted: Vec<_> = addrs.iter().map(|addr| record(addr)).collect();
        wanted.sort();
        let deadline = Instant::now() + 2 * SOON;
        loop {
            let records = self.with(|etcd| etcd.records()).await;
            if records == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "etcd holds {records:?} in place of {wanted:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Every node sees every other.
pub(super) async fn is_whole(fleet: &Fleet<'_>) {
    for node in fleet.iter() {
        node.sees(&fleet.addrs).await;
    }
}

/// Callers in the background: one a node, key after key.
pub(super) struct Callers {
    over: Arc<AtomicBool>,
    gets: Arc<AtomicUsize>,
    running: Vec<JoinHandle<()>>,
}

impl Callers {
    pub(super) fn of(nodes: &[Node]) -> Self {
        let (over, gets) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let running = nodes.iter().cloned().map(|node| {
            let (over, gets) = (Arc::clone(&over), Arc::clone(&gets));
            spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let key = format!("of callers {}", gets.fetch_add(1, Ordering::SeqCst) % 300);
                    assert_eq!(node.value(&key).await, value_of(&key));
                    sleep(Duration::from_millis(5)).await;
                }
            })
        });
        let running = running.collect();
        Self { over, gets, running }
    }

    /// Ends them. What went wrong in one of them goes wrong here.
    pub(super) async fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        join_all(self.running).await;
        assert!(self.gets.load(Ordering::SeqCst) > 100, "they were at work");
    }
}
