//! The etcd registry against a real etcd: bytes, leases, watches, restarts, and everything that can be wrong with a connection.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{BoxStream, StreamExt};
use groupcache_core::{Change, MemberRecord, Revision, WatchEvent};
use groupcache_runtime::{EtcdConfig, EtcdRegistry, KeepAlive, Registration, Registry, RegistryError};
use support::async_std_runtime::AsyncStdRuntime;
use support::etcd::{Etcd, free_port};
use support::tokio_runtime::TokioRuntime;

mod support {
    pub(crate) mod async_std_runtime;
    pub(crate) mod etcd;
    pub(crate) mod tokio_runtime;
}

const TTL: Duration = Duration::from_secs(2);

async fn registry(endpoints: &[String]) -> EtcdRegistry {
    with_config(EtcdConfig::new(endpoints)).await
}

async fn with_config(config: EtcdConfig) -> EtcdRegistry {
    EtcdRegistry::new(Arc::new(TokioRuntime), config).await.expect("a good configuration")
}

async fn addrs(registry: &EtcdRegistry) -> Vec<String> {
    let listing = registry.list().await.expect("a list");
    listing.records.iter().map(|record| record.addr.to_string()).collect()
}

async fn within<T>(limit: Duration, what: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, what).await.expect("in time")
}

async fn next(watch: &mut BoxStream<'static, WatchEvent>) -> Option<WatchEvent> {
    within(Duration::from_secs(20), watch.next()).await
}

async fn next_changes(watch: &mut BoxStream<'static, WatchEvent>) -> Vec<Change> {
    match next(watch).await {
        Some(WatchEvent::Changed { changes, .. }) => changes,
        other => panic!("{other:?}"),
    }
}

/// Calls until it succeeds: after a fault the first call or two may still meet the old connection.
async fn until_ok<T, F>(mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, RegistryError>>,
{
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn a_record_has_the_bytes_that_the_go_system_writes_and_is_gone_at_once_when_deregistered() {
    let etcd = Etcd::start();
    let registry = registry(&[format!("http://{}", etcd.endpoint())]).await;
    let granted = registry.register(&Registration::new("localhost:8001", 1), TTL).await.unwrap();
    assert_eq!(granted.ttl, TTL);
    registry.register(&Registration::new("localhost:8002", 3), TTL).await.unwrap();
    let stored = etcd.ctl(&["get", "groupcache/", "--prefix"]);
    let expected = concat!(
        "groupcache/localhost:8001\n",
        r#"{"Op":0,"Addr":"localhost:8001","Metadata":null}"#,
        "\ngroupcache/localhost:8002\n",
        r#"{"Op":0,"Addr":"localhost:8002","Metadata":{"weight":3}}"#,
        "\n"
    );
    assert_eq!(stored, expected);
    assert_eq!(registry.list().await.unwrap().records[1], MemberRecord::new("localhost:8002", 3));
    let leases = || etcd.ctl(&["lease", "list"]);
    assert!(leases().contains(&format!("{:x}", granted.lease.get())));
    registry.deregister("localhost:8001", Some(granted.lease)).await.unwrap();
    assert_eq!(etcd.ctl(&["get", "groupcache/localhost:8001"]), "");
    assert!(!leases().contains(&format!("{:x}", granted.lease.get())), "the lease is revoked too");
    registry.deregister("localhost:8001", Some(granted.lease)).await.expect("what is gone is no error");
    registry.deregister("localhost:8002", None).await.expect("without a lease, the record goes all the same");
    assert_eq!(etcd.ctl(&["get", "groupcache/", "--prefix"]), "");
}

#[tokio::test]
async fn only_keys_behind_the_slash_are_members_and_what_cannot_be_read_is_passed_over() {
    let etcd = Etcd::start();
    let registry = registry(&[etcd.endpoint()]).await;
    let good = |addr: &str| format!(r#"{{"addr":"{addr}","Extra":[1]}}"#);
    let revision = registry.list().await.unwrap().revision;
    etcd.ctl(&["put", "groupcache", &good("no:1")]);
    etcd.ctl(&["put", "groupcache2/no:2", &good("no:2")]);
    etcd.ctl(&["put", "groupcache/", &good("no:3")]);
    etcd.ctl(&["put", "groupcache/localhost:8000", &good("localhost:8000")]);
    etcd.ctl(&["put", "groupcache/bare:1", "bare:1"]);
    etcd.ctl(&["put", "groupcache/localhost:800", &good("dialled:800")]);
    assert_eq!(addrs(&registry).await, ["dialled:800", "localhost:8000"]);
    registry.deregister("localhost:800", None).await.unwrap();
    assert_eq!(addrs(&registry).await, ["localhost:8000"], ":800 is not :8000");
    let mut watch = registry.watch(revision).await.unwrap();
    let mut told = Vec::new();
    while !told.contains(&Change::Delete("localhost:800".into())) {
        told.extend(next_changes(&mut watch).await);
    }
    let expected = [
        Change::Put(MemberRecord::new("localhost:8000", 1)),
        Change::Put(MemberRecord::new("dialled:800", 1).with_key("localhost:800")),
        Change::Delete("localhost:800".into()),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_lease_lives_while_it_is_kept_alive_and_takes_the_record_with_it_when_not() {
    let etcd = Etcd::start();
    let registry = registry(&[etcd.endpoint()]).await;
    let granted = registry.register(&Registration::new("a:1", 1), TTL).await.unwrap();
    let mut watch = registry.watch(registry.list().await.unwrap().revision).await.unwrap();
    let until = Instant::now() + 2 * TTL;
    while Instant::now() < until {
        assert_eq!(registry.keep_alive(granted.lease).await.unwrap(), KeepAlive::Alive { ttl: TTL });
        tokio::time::sleep(TTL / 8).await;
    }
    assert_eq!(addrs(&registry).await, ["a:1"]);
    assert_eq!(next_changes(&mut watch).await, [Change::Delete("a:1".into())], "nobody keeps it any more");
    assert_eq!(registry.keep_alive(granted.lease).await.unwrap(), KeepAlive::Lost);
}

#[tokio::test]
async fn a_revoked_lease_is_lost_on_an_open_keep_alive_stream_and_on_a_new_one() {
    let etcd = Etcd::start();
    let [one, other] = [registry(&[etcd.endpoint()]).await, registry(&[etcd.endpoint()]).await];
    let granted = one.register(&Registration::new("a:1", 1), TTL).await.unwrap();
    assert_eq!(one.keep_alive(granted.lease).await.unwrap(), KeepAlive::Alive { ttl: TTL });
    etcd.ctl(&["lease", "revoke", &format!("{:x}", granted.lease.get())]);
    assert_eq!(one.keep_alive(granted.lease).await.unwrap(), KeepAlive::Lost);
    assert_eq!(other.keep_alive(granted.lease).await.unwrap(), KeepAlive::Lost);
    let again = one.register(&Registration::new("a:1", 1), TTL).await.unwrap();
    assert_eq!(one.keep_alive(again.lease).await.unwrap(), KeepAlive::Alive { ttl: TTL });
}

#[tokio::test]
async fn a_watch_ends_with_etcd_and_the_next_one_misses_nothing() {
    let mut etcd = Etcd::start();
    let registry = registry(&[etcd.endpoint()]).await;
    let granted = registry.register(&Registration::new("a:1", 1), 60 * TTL).await.unwrap();
    let revision = registry.list().await.unwrap().revision;
    let mut watch = registry.watch(revision).await.unwrap();
    etcd.kill();
    assert!(matches!(next(&mut watch).await, Some(WatchEvent::Ended(Some(_)))));
    assert!(next(&mut watch).await.is_none());
    assert!(registry.list().await.is_err());
    etcd.restart();
    etcd.ctl(&["put", "groupcache/b:1", r#"{"Op":0,"Addr":"b:1","Metadata":null}"#]);
    let mut watch = until_ok(|| registry.watch(revision)).await;
    assert_eq!(next_changes(&mut watch).await, [Change::Put(MemberRecord::new("b:1", 1))]);
    let alive = until_ok(|| registry.keep_alive(granted.lease)).await;
    assert_eq!(alive, KeepAlive::Alive { ttl: 60 * TTL }, "leases outlive a restart");
}

#[tokio::test]
async fn a_watch_behind_a_compaction_says_so() {
    let etcd = Etcd::start();
    let registry = registry(&[etcd.endpoint()]).await;
    let before = registry.list().await.unwrap().revision;
    for _ in 0..3 {
        registry.register(&Registration::new("a:1", 1), TTL).await.unwrap();
    }
    let now = registry.list().await.unwrap().revision;
    etcd.ctl(&["compact", &now.get().to_string()]);
    let mut watch = registry.watch(before).await.unwrap();
    match next(&mut watch).await {
        Some(WatchEvent::Compacted { revision }) => assert_eq!(revision, now),
        other => panic!("{other:?}"),
    }
    assert!(next(&mut watch).await.is_none());
}

#[tokio::test]
async fn a_watch_behind_a_revision_that_etcd_has_lost_says_so_instead_of_waiting_in_silence() {
    let mut etcd = Etcd::start();
    let registry = registry(&[etcd.endpoint()]).await;
    for _ in 0..5 {
        registry.register(&Registration::new("a:1", 1), TTL).await.unwrap();
    }
    let seen = registry.list().await.unwrap().revision;
    etcd.lose_data();
    etcd.restart();
    let mut watch = until_ok(|| registry.watch(seen)).await;
    assert!(matches!(next(&mut watch).await, Some(WatchEvent::Compacted { revision }) if revision < seen));
}

#[tokio::test]
async fn an_idle_watch_is_not_cut_off_for_its_pings() {
    let etcd = Etcd::start();
    let mut config = EtcdConfig::new([etcd.endpoint()]);
    config.ping_interval = Duration::from_secs(6);
    let registry = with_config(config).await;
    let mut watch = registry.watch(Revision::new(0)).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_secs(26), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    registry.register(&Registration::new("a:1", 1), TTL).await.unwrap();
    assert_eq!(next_changes(&mut watch).await, [Change::Put(MemberRecord::new("a:1", 1))]);
}

#[tokio::test]
async fn an_etcd_that_hangs_costs_one_time_limit_a_call_and_its_watch_is_found_dead_by_ping_or_by_call() {
    let etcd = Etcd::start();
    let mut config = EtcdConfig::new([etcd.endpoint()]);
    config.request_timeout = Duration::from_millis(300);
    config.ping_interval = Duration::from_secs(6);
    config.ping_timeout = Duration::from_secs(1);
    let registry = with_config(config).await;
    let granted = registry.register(&Registration::new("a:1", 1), 60 * TTL).await.unwrap();
    let mut watch = registry.watch(registry.list().await.unwrap().revision).await.unwrap();
    etcd.signal("STOP");
    assert!(matches!(next(&mut watch).await, Some(WatchEvent::Ended(Some(_)))), "nobody calls");
    etcd.signal("CONT");
    let listing = until_ok(|| registry.list()).await;
    let mut watch = until_ok(|| registry.watch(listing.revision)).await;
    etcd.signal("STOP");
    let asked = Instant::now();
    for _ in 0..2 {
        assert!(matches!(registry.keep_alive(granted.lease).await, Err(RegistryError::TimedOut { .. })));
        assert!(matches!(registry.list().await, Err(RegistryError::TimedOut { .. })));
    }
    assert!(matches!(next(&mut watch).await, Some(WatchEvent::Ended(Some(_)))));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    etcd.signal("CONT");
    assert_eq!(until_ok(|| registry.keep_alive(granted.lease)).await, KeepAlive::Alive { ttl: 60 * TTL });
}

#[tokio::test]
async fn endpoints_that_refuse_or_never_answer_are_passed_over() {
    let etcd = Etcd::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = format!("127.0.0.1:{}", free_port());
    let mut config = EtcdConfig::new([refused, silent.local_addr().unwrap().to_string(), etcd.endpoint()]);
    config.request_timeout = Duration::from_millis(400);
    let registry = with_config(config).await;
    let asked = Instant::now();
    let me = Registration::new("a:1", 1);
    until_ok(|| registry.register(&me, TTL)).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(addrs(&registry).await, ["a:1"], "and the one that answers is kept");
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_an_error_that_says_where_and_why() {
    let endpoint = format!("127.0.0.1:{}", free_port());
    let registry = registry(std::slice::from_ref(&endpoint)).await;
    let error = registry.list().await.unwrap_err();
    let said = chain(&error);
    assert!(said.contains(&endpoint) && said.to_lowercase().contains("refused"), "{said}");
}

#[tokio::test]
async fn endpoints_and_pings_that_cannot_work_are_refused_at_once() {
    async fn refused(config: EtcdConfig) -> &'static str {
        match EtcdRegistry::new(Arc::new(TokioRuntime), config).await {
            Err(RegistryError::Endpoint { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused(EtcdConfig::new(Vec::<String>::new())).await.contains("none"));
    assert!(refused(EtcdConfig::new(["h:1", "https://h:1"])).await.contains("set `security`"));
    let mut config = EtcdConfig::new(["h:1"]);
    config.ping_interval = Duration::from_secs(2);
    assert!(refused(config).await.contains("ping"));
}

#[test]
fn no_tokio_runtime_is_needed() {
    let mut etcd = Etcd::start();
    async_std::task::block_on(async {
        let config = EtcdConfig::new([etcd.endpoint()]);
        let registry = EtcdRegistry::new(Arc::new(AsyncStdRuntime), config).await.unwrap();
        let granted = registry.register(&Registration::new("a:1", 1), 30 * TTL).await.unwrap();
        let mut watch = registry.watch(Revision::new(0)).await.unwrap();
        let put = async_std::future::timeout(Duration::from_secs(20), watch.next()).await.unwrap();
        assert!(matches!(put, Some(WatchEvent::Changed { .. })), "{put:?}");
        etcd.kill();
        let ended = async_std::future::timeout(Duration::from_secs(20), watch.next()).await.unwrap();
        assert!(matches!(ended, Some(WatchEvent::Ended(_))), "{ended:?}");
        assert!(registry.list().await.is_err());
        etcd.restart();
        let alive = registry.keep_alive(granted.lease).await.unwrap();
        assert_eq!(alive, KeepAlive::Alive { ttl: 30 * TTL });
        registry.deregister("a:1", Some(granted.lease)).await.unwrap();
        assert!(addrs(&registry).await.is_empty());
        assert!(tokio::runtime::Handle::try_current().is_err());
    });
}
