//! Members out of a real DNS server, on either runtime.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use groupcache_core::WatchEvent;
use groupcache_runtime::{DnsConfig, DnsRegistry, Registration, Registry, RegistryError, Runtime};
use support::async_std_runtime::AsyncStdRuntime;
use support::dnsmasq::{NAME, Server};
use support::tokio_runtime::TokioRuntime;

mod support {
    pub(crate) mod async_std_runtime;
    pub(crate) mod dnsmasq;
    pub(crate) mod tokio_runtime;
}

const SOON: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(60);

/// Asked all the time, so that nobody has to wait.
fn registry(rt: &Arc<dyn Runtime>, mut config: DnsConfig, port: u16) -> DnsRegistry {
    config.servers = vec![([127, 0, 0, 1], port).into()];
    (config.min_interval, config.max_interval) = (Duration::from_millis(20), Duration::from_millis(20));
    DnsRegistry::new(rt, config).expect("a good name")
}

async fn members(registry: &DnsRegistry) -> Vec<String> {
    let listing = registry.list().await.expect("an answer");
    listing.records.iter().map(|record| record.addr.to_string()).collect()
}

async fn wait_for_members(rt: &Arc<dyn Runtime>, registry: &DnsRegistry, expected: &[&str]) {
    let deadline = Instant::now() + SOON;
    loop {
        let members = members(registry).await;
        if members == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{members:?} in place of {expected:?}");
        rt.sleep(Duration::from_millis(10)).await;
    }
}

async fn members_come_and_go_with_their_records(rt: Arc<dyn Runtime>) {
    let server = Server::start(&[]);
    let registry = registry(&rt, DnsConfig::hosts(NAME, 6324), server.port);
    assert!(members(&registry).await.is_empty(), "no such name is an answer");
    let me = Registration::new("10.0.0.9:6324", 3);
    let granted = registry.register(&me, TTL).await.expect("nothing is asked");
    let listing = registry.list().await.expect("an answer");
    assert_eq!((listing.records.len(), listing.records[0].weight), (1, 1), "as the others see it");
    let mut watch = registry.watch(listing.revision).await.expect("a watch");

    server.set_hosts(&["10.0.0.1", "10.0.0.2", "fd00::1"]);
    let change = watch.next().await;
    assert!(matches!(&change, Some(WatchEvent::Changed { changes, .. }) if changes.len() == 2), "{change:?}");
    wait_for_members(&rt, &registry, &["10.0.0.1:6324", "10.0.0.2:6324", "10.0.0.9:6324"]).await;
    server.set_hosts(&["10.0.0.2", "10.0.0.9"]);
    wait_for_members(&rt, &registry, &["10.0.0.2:6324", "10.0.0.9:6324"]).await;
    registry.deregister(&me.addr, Some(granted.lease)).await.expect("nothing is asked");
    assert_eq!(members(&registry).await.len(), 2, "DNS has it still");
    server.set_hosts(&["fd00::1"]);
    wait_for_members(&rt, &registry, &["[fd00::1]:6324"]).await;

    // More than fits into a datagram: it is asked for over TCP.
    let many: Vec<String> = (1..=100).map(|host| format!("10.0.1.{host}")).collect();
    server.set_hosts(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let mut expected: Vec<String> = many.iter().map(|host| format!("{host}:6324")).collect();
    expected.sort_unstable();
    wait_for_members(&rt, &registry, &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn members_come_and_go_with_their_records_on_tokio() {
    members_come_and_go_with_their_records(Arc::new(TokioRuntime)).await;
}

#[test]
fn members_come_and_go_with_their_records_on_async_std() {
    async_std::task::block_on(async {
        members_come_and_go_with_their_records(Arc::new(AsyncStdRuntime)).await;
        assert!(tokio::runtime::Handle::try_current().is_err());
    });
}

#[tokio::test]
async fn the_members_of_a_service_are_its_targets_by_name_and_port() {
    let service = "_peers._tcp.cache.test";
    let server = Server::start(&[
        &format!("{service},pod-0.cache.test,6324"),
        &format!("{service},pod-1.cache.test,6325"),
    ]);
    let rt: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let registry = registry(&rt, DnsConfig::services(format!("{service}.")), server.port);
    assert_eq!(members(&registry).await, ["pod-0.cache.test:6324", "pod-1.cache.test:6325"]);
}

/// Takes the place of a server that was killed: answers so, and counts.
fn fail(port: u16, answer: impl Fn(&mut Vec<u8>) + Send + 'static) -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind(("127.0.0.1", port)).expect("nobody is there any more");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut query) {
            let mut reply = query[..len].to_vec();
            answer(&mut reply);
            let _ = socket.send_to(&reply, from);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    asked
}

#[tokio::test]
async fn a_server_that_is_gone_or_fails_or_lies_takes_no_member_away() {
    let rt: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let lies: [fn(&mut Vec<u8>); 4] = [
        // SERVFAIL; REFUSED; a name of another's, with an answer of nobody; not even DNS.
        |reply| (reply[2], reply[3]) = (0x80, 2),
        |reply| (reply[2], reply[3]) = (0x80, 5),
        |reply| (reply[2], reply[13]) = (0x80, b'x'),
        |reply| reply.truncate(7),
    ];
    for lie in lies {
        let mut server = Server::start(&[]);
        server.set_hosts(&["10.0.0.1"]);
        let registry = registry(&rt, DnsConfig::hosts(NAME, 1), server.port);
        wait_for_members(&rt, &registry, &["10.0.0.1:1"]).await;
        server.kill();
        let asked = fail(server.port, lie);
        let deadline = Instant::now() + SOON;
        while asked.load(Ordering::SeqCst) < 3 {
            assert!(Instant::now() < deadline, "it is asked again and again");
            rt.sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(members(&registry).await, ["10.0.0.1:1"]);
    }
}

#[tokio::test]
async fn before_the_first_answer_nobody_is_known_and_the_reason_is_told() {
    let rt: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    let port = listener.local_addr().expect("it is bound").port();
    let registry = registry(&rt, DnsConfig::hosts(NAME, 1), port);
    let error = registry.list().await.expect_err("nobody listens there");
    let said = groupcache_core::in_words(&error).to_string();
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
    let unusable = DnsRegistry::new(&rt, DnsConfig::services("no..name"));
    assert!(matches!(unusable, Err(RegistryError::Endpoint { endpoint, .. }) if endpoint == "no..name"));
}
