//! The registries that need no server, and the driver with membership on top of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant as StdInstant};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use groupcache_core::{
    Change, Effects, Instant, Intent, LeaseId, Membership, MembershipConfig, OpId, RegistryOutcome, Revision,
    Wake, WatchEvent,
};
use tokio_runtime::TokioRuntime;

use super::*;
use crate::rt::Runtime;

#[path = "../../tests/support/tokio_runtime.rs"]
mod tokio_runtime;

#[cfg(feature = "etcd")]
#[path = "../../tests/support/etcd.rs"]
#[allow(dead_code)]
mod real_etcd;

const TTL: Duration = Duration::from_secs(5);

fn addrs(listing: &Listing) -> Vec<&str> {
    listing.records.iter().map(|record| &*record.addr).collect()
}

async fn next(watch: &mut BoxStream<'static, WatchEvent>) -> Option<WatchEvent> {
    tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("an event")
}

async fn next_changes(watch: &mut BoxStream<'static, WatchEvent>) -> Vec<Change> {
    match next(watch).await {
        Some(WatchEvent::Changed { changes, .. }) => changes,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_memory_registry_keeps_records_under_leases_and_tells_watches() {
    let registry = MemoryRegistry::new();
    let mut watch = registry.watch(Revision::new(0)).await.unwrap();
    let granted = registry.register(&Registration::new("a:1", 2), TTL).await.unwrap();
    assert_eq!(next_changes(&mut watch).await, [Change::Put(MemberRecord::new("a:1", 2))]);
    assert_eq!(registry.keep_alive(granted.lease).await.unwrap(), KeepAlive::Alive { ttl: TTL });
    registry.expire(granted.lease);
    assert_eq!(next_changes(&mut watch).await, [Change::Delete("a:1".into())]);
    assert_eq!(registry.keep_alive(granted.lease).await.unwrap(), KeepAlive::Lost);
    let listing = registry.list().await.unwrap();
    assert_eq!((listing.records.len(), listing.revision), (0, Revision::new(2)));
}

#[tokio::test]
async fn a_lease_of_a_memory_registry_ends_by_itself() {
    let registry = MemoryRegistry::new();
    registry.register(&Registration::new("a:1", 1), Duration::from_millis(20)).await.unwrap();
    registry.register(&Registration::new("b:1", 1), Duration::MAX).await.unwrap();
    let deadline = StdInstant::now() + Duration::from_secs(10);
    while addrs(&registry.list().await.unwrap()) != ["b:1"] {
        assert!(StdInstant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_old_lease_does_not_take_a_new_record_with_it() {
    let registry = MemoryRegistry::new();
    let old = registry.register(&Registration::new("a:1", 1), TTL).await.unwrap();
    let new = registry.register(&Registration::new("a:1", 1), TTL).await.unwrap();
    registry.expire(old.lease);
    assert_eq!(addrs(&registry.list().await.unwrap()), ["a:1"]);
    registry.deregister("a:1", Some(new.lease)).await.unwrap();
    registry.deregister("a:1", Some(new.lease)).await.unwrap();
    assert!(registry.list().await.unwrap().records.is_empty());
}

#[tokio::test]
async fn a_watch_begins_behind_its_revision_and_old_history_is_compacted() {
    let registry = MemoryRegistry::new();
    for round in 0..1500 {
        registry.register(&Registration::new(format!("a:{round}"), 1), TTL).await.unwrap();
    }
    let mut watch = registry.watch(Revision::new(1498)).await.unwrap();
    assert_eq!(next_changes(&mut watch).await, [Change::Put(MemberRecord::new("a:1498", 1))]);
    assert_eq!(next_changes(&mut watch).await, [Change::Put(MemberRecord::new("a:1499", 1))]);
    for after in [0, 9999] {
        let mut compacted = registry.watch(Revision::new(after)).await.unwrap();
        assert!(matches!(next(&mut compacted).await, Some(WatchEvent::Compacted { .. })), "{after}");
        assert!(next(&mut compacted).await.is_none());
    }
}

#[tokio::test]
async fn a_watch_that_does_not_keep_up_is_ended_not_buffered_for_ever() {
    let registry = MemoryRegistry::new();
    let watch = registry.watch(Revision::new(0)).await.unwrap();
    for round in 0..2000 {
        registry.register(&Registration::new(format!("a:{round}"), 1), TTL).await.unwrap();
    }
    let events: Vec<_> = tokio::time::timeout(Duration::from_secs(10), watch.collect()).await.unwrap();
    assert!(events.len() < 1000, "{}", events.len());
    assert!(matches!(events.last(), Some(WatchEvent::Ended(None))));
}

#[tokio::test]
async fn a_static_list_is_what_was_named_and_who_registered() {
    let registry = StaticRegistry::new(["a:1", "b:1", ""]);
    assert_eq!(addrs(&registry.list().await.unwrap()), ["a:1", "b:1"]);
    registry.register(&Registration::new("a:1", 1), TTL).await.unwrap();
    registry.register(&Registration::new("c:1", 1), TTL).await.unwrap();
    assert_eq!(addrs(&registry.list().await.unwrap()), ["a:1", "b:1", "c:1"]);
    registry.deregister("a:1", None).await.unwrap();
    registry.deregister("c:1", None).await.unwrap();
    assert_eq!(addrs(&registry.list().await.unwrap()), ["a:1", "b:1"], "what is named stays");
}

#[tokio::test]
async fn set_peers_replaces_a_static_list_in_one_change_that_watches_see() {
    let registry = StaticRegistry::new(["a:1", "b:1"]);
    let revision = registry.list().await.unwrap().revision;
    let mut watch = registry.watch(revision).await.unwrap();
    registry.set_peers(["a:1", "b:1"]);
    registry.set_peers(["b:1", "c:1"]);
    let changes = next_changes(&mut watch).await;
    assert_eq!(changes, [Change::Delete("a:1".into()), Change::Put(MemberRecord::new("c:1", 1))]);
}

/// Membership as a node composes it, on the wall clock.
struct Member {
    inner: Mutex<(Membership, Effects<()>)>,
    driver: Mutex<Option<RegistryDriver>>,
    origin: StdInstant,
}

impl Member {
    fn start(registry: Arc<dyn Registry>, config: MembershipConfig) -> Arc<Self> {
        let me = Registration::new(Arc::clone(&config.me), config.weight);
        let op_timeout = config.op_timeout;
        let machine = Membership::new(config, 1, Instant::ZERO).unwrap();
        let member = Arc::new(Self {
            inner: Mutex::new((machine, Effects::new())),
            driver: Mutex::new(None),
            origin: StdInstant::now(),
        });
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        let weak = Arc::downgrade(&member);
        let events: Weak<dyn RegistryEvents> = weak.clone();
        *member.driver.lock().unwrap() =
            Some(RegistryDriver::spawn(registry, &runtime, me, op_timeout, events));
        member.turn(|machine, now, out| machine.start(now, out));
        tokio::spawn(async move {
            while let Some(member) = weak.upgrade() {
                member.turn(|machine, now, out| {
                    if machine.next_wake().is_due(now) {
                        let _: Wake = machine.handle_timeout(now, out);
                    }
                });
                drop(member);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        member
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap())
    }

    fn turn<T>(&self, act: impl FnOnce(&mut Membership, Instant, &mut Effects<()>) -> T) -> T {
        let mut inner = self.inner.lock().unwrap();
        let (machine, out) = &mut *inner;
        let answer = act(machine, self.now(), out);
        let intents: Vec<_> = out.drain_intents().collect();
        drop(inner);
        for intent in intents {
            let Intent::Registry(intent) = intent else { panic!("{intent:?}") };
            self.driver.lock().unwrap().as_ref().unwrap().execute(intent);
        }
        answer
    }

    async fn until(&self, what: &str, done: impl Fn(&Membership, Instant) -> bool) {
        let deadline = StdInstant::now() + Duration::from_secs(20);
        while !self.turn(|machine, now, _| done(machine, now)) {
            assert!(StdInstant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn until_members(&self, expected: &[&str]) {
        let same =
            |machine: &Membership| machine.members().iter().map(|m| &*m.addr).eq(expected.iter().copied());
        self.until(&format!("{expected:?}"), |machine, _| same(machine)).await;
    }
}

impl RegistryEvents for Member {
    fn registry(&self, op: OpId, outcome: RegistryOutcome) {
        let _ = self.turn(|machine, now, out| machine.handle_registry(now, op, outcome, out));
    }

    fn watch(&self, op: OpId, event: WatchEvent) {
        let _ = self.turn(|machine, now, out| machine.handle_watch(now, op, event, out));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_find_each_other_and_leave_through_the_driver() {
    let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
    let a = Member::start(Arc::clone(&registry), MembershipConfig::new("a:1"));
    let b = Member::start(Arc::clone(&registry), MembershipConfig::new("b:1"));
    let c = Member::start(Arc::clone(&registry), MembershipConfig::new("c:1"));
    for member in [&a, &b, &c] {
        member.until_members(&["a:1", "b:1", "c:1"]).await;
        member.until("registered", Membership::is_registered).await;
    }
    c.turn(|machine, now, out| machine.stop(now, out));
    c.until("stopped", |machine, _| machine.is_stopped()).await;
    assert_eq!(addrs(&registry.list().await.unwrap()), ["a:1", "b:1"]);
    a.until_members(&["a:1", "b:1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn set_peers_reaches_a_running_member() {
    let registry = StaticRegistry::new(["a:1", "b:1"]);
    let member = Member::start(Arc::new(registry.clone()), MembershipConfig::new("a:1"));
    member.until_members(&["a:1", "b:1"]).await;
    registry.set_peers(["b:1", "c:1"]);
    member.until_members(&["a:1", "b:1", "c:1"]).await;
}

/// Fails, hangs or panics for a while, then behaves.
#[derive(Debug)]
struct Unruly {
    behaved: MemoryRegistry,
    calls: AtomicUsize,
    watches: AtomicUsize,
}

impl Unruly {
    async fn misbehave(&self) -> Result<(), RegistryError> {
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0..4 => std::future::pending().await,
            4..8 => panic!("a bug in the registry"),
            8..12 => Err(RegistryError::Malformed { operation: "test", reason: "on purpose" }),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Registry for Unruly {
    async fn register(&self, me: &Registration, ttl: Duration) -> Result<Granted, RegistryError> {
        self.misbehave().await?;
        self.behaved.register(me, ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, RegistryError> {
        self.behaved.keep_alive(lease).await
    }

    async fn deregister(&self, addr: &str, lease: Option<LeaseId>) -> Result<(), RegistryError> {
        self.behaved.deregister(addr, lease).await
    }

    async fn list(&self) -> Result<Listing, RegistryError> {
        self.misbehave().await?;
        self.behaved.list().await
    }

    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, WatchEvent>, RegistryError> {
        match self.watches.fetch_add(1, Ordering::Relaxed) {
            0 => std::future::pending().await,
            1 => panic!("a bug in the registry"),
            2 => Ok(stream::iter(0..1).map(|_| -> WatchEvent { panic!("a bug in the stream") }).boxed()),
            3 => Ok(stream::empty().boxed()),
            _ => self.behaved.watch(after).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_panics_and_fails_is_survived() {
    let behaved = MemoryRegistry::new();
    let unruly =
        Unruly { behaved: behaved.clone(), calls: AtomicUsize::new(0), watches: AtomicUsize::new(0) };
    let mut config = MembershipConfig::new("a:1");
    config.op_timeout = Duration::from_millis(50);
    config.backoff_base = Duration::from_millis(2);
    config.backoff_max = Duration::from_millis(20);
    let member = Member::start(Arc::new(unruly), config);
    member.until("registered", Membership::is_registered).await;
    member.until("the fifth watch", |machine, _| machine.stats().watches_ended >= 4).await;
    behaved.register(&Registration::new("b:1", 1), TTL).await.unwrap();
    member.until_members(&["a:1", "b:1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_ends_when_nobody_listens() {
    let registry = Arc::new(MemoryRegistry::new());
    let member = Member::start(Arc::clone(&registry) as Arc<dyn Registry>, MembershipConfig::new("a:1"));
    member.until("registered", Membership::is_registered).await;
    drop(member);
    let deadline = StdInstant::now() + Duration::from_secs(20);
    while Arc::strong_count(&registry) > 1 {
        assert!(StdInstant::now() < deadline, "{} still hold it", Arc::strong_count(&registry));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(feature = "etcd")]
#[tokio::test(flavor = "multi_thread")]
async fn members_live_through_an_outage_of_etcd_and_through_the_loss_of_its_data() {
    let mut etcd = real_etcd::Etcd::start();
    let mut members = Vec::new();
    for addr in ["a:1", "b:1", "c:1"] {
        let registry = EtcdRegistry::new(Arc::new(TokioRuntime), EtcdConfig::new([etcd.endpoint()])).await;
        let mut config = MembershipConfig::new(addr);
        config.lease_ttl = Duration::from_secs(2);
        members.push(Member::start(Arc::new(registry.unwrap()), config));
    }
    let all = ["a:1", "b:1", "c:1"];
    for round in 0..2 {
        for member in &members {
            member.until_members(&all).await;
            member.until("registered", Membership::is_registered).await;
        }
        if round == 0 {
            etcd.kill()
        } else {
            etcd.lose_data()
        }
        for member in &members {
            member.until("the lease is over", |machine, now| !machine.is_registered(now)).await;
            member.until_members(&all).await;
        }
        etcd.restart();
        for member in &members {
            member.until("registered again", Membership::is_registered).await;
        }
    }
    let lines = || etcd.ctl(&["get", "groupcache/", "--prefix", "--keys-only"]);
    let deadline = StdInstant::now() + Duration::from_secs(20);
    while lines().split_whitespace().count() != 3 {
        assert!(StdInstant::now() < deadline, "{}", lines());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    members[0].turn(|machine, now, out| machine.stop(now, out));
    members[0].until("stopped", |machine, _| machine.is_stopped()).await;
    assert!(!lines().contains("a:1"));
    members[1].until_members(&["b:1", "c:1"]).await;
}

#[cfg(feature = "etcd")]
#[test]
fn a_password_is_in_no_debug_output() {
    let mut config = EtcdConfig::new(["127.0.0.1:2379"]);
    config.user = Some(EtcdUser::new("node", "s3cret"));
    let shown = format!("{config:?}");
    assert!(shown.contains("node") && !shown.contains("s3cret"), "{shown}");
}
