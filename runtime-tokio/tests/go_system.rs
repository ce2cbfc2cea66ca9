//! What the Go system has and how it broke, each shown through the public API. runtime/PARITY.md is the list.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use groupcache_tokio::{
    ConfigError, DEFAULT_ADDR, ErrorKind, Group, GroupError, Level, RetrieveError, Server, ServerBuilder,
    StartError, Status,
};
use tokio::task::JoinSet;
use tracing_subscriber::util::SubscriberInitExt;

const SOON: Duration = Duration::from_secs(20);

async fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn on_any_port() -> ServerBuilder {
    Server::builder().addr("127.0.0.1:0")
}

/// A group whose values are `value of KEY`, and the count of its loads.
fn counted(server: &Server, name: &str) -> (Group, Arc<AtomicUsize>) {
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let retriever = move |key: String| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, RetrieveError>(format!("value of {key}")) }
    };
    (server.new_group(name, retriever).expect("the first of its name"), loads)
}

/// `ByteView`, and S47: nothing is copied on the way out.
#[tokio::test]
async fn a_view_is_bytes_a_length_and_text_and_shares_the_cached_allocation() {
    let server = Server::builder().build().expect("the defaults are in range");
    let (group, _) = counted(&server, "g");
    let (first, second) = (group.get("k").await.expect("a value"), group.get("k").await.expect("a value"));
    assert_eq!((first.as_bytes(), first.len()), (&b"value of k"[..], 10));
    assert_eq!((first.to_str(), first.to_string()), (Ok("value of k"), "value of k".to_owned()));
    assert_eq!(first.as_bytes().as_ptr(), second.as_bytes().as_ptr(), "both are the cached bytes");
    let at = second.as_bytes().as_ptr();
    assert_eq!(second.into_bytes().as_ptr(), at, "and stay it as `Bytes`");
    let raw = server.new_group("raw", |_: String| async { Ok::<_, RetrieveError>(vec![0xff]) });
    let raw = raw.expect("another name").get("k").await.expect("a value");
    assert!(raw.to_str().is_err() && raw.to_string() == "\u{fffd}");
}

/// `NewGroup`, `GetGroup`, `DestroryGroup`; S26 to S28.
#[tokio::test]
async fn a_group_is_found_by_its_name_and_its_end_is_that_of_no_other() {
    let server = Server::builder().build().expect("the defaults are in range");
    let ((one, _), (other, others)) = (counted(&server, "one"), counted(&server, "other"));
    assert_eq!(server.group_names().iter().map(|name| &**name).collect::<Vec<_>>(), ["one", "other"]);
    one.get("k").await.expect("a value");
    other.get("k").await.expect("a value");
    let found = server.group("one").expect("it is there");
    assert_eq!(found.peek("k").expect("it is the same group").as_bytes(), b"value of k");
    let second = server.new_group("one", |_: String| async { Ok::<_, RetrieveError>("") });
    assert!(matches!(second, Err(GroupError::Exists(name)) if name == "one"));

    assert!(server.destroy_group("one"));
    assert!(!server.destroy_group("one") && server.group("one").is_none());
    assert_eq!(one.get("k").await.expect_err("it is gone").kind(), ErrorKind::NoSuchGroup);
    other.get("k").await.expect("the other goes on");
    assert_eq!(others.load(Ordering::SeqCst), 1, "with what it had");
}

/// `Group.Get`: and the ways to ask that the Go system has not.
#[tokio::test]
async fn a_get_can_say_where_from_how_long_and_not_at_all() {
    let server = Server::builder().build().expect("the defaults are in range");
    let slow = |key: String| async move {
        tokio::time::sleep(Duration::from_secs(if key == "slow" { 3600 } else { 0 })).await;
        Ok::<_, RetrieveError>(key)
    };
    let group = server.group_builder("g").retriever(slow).ttl(Duration::from_secs(60)).build();
    let group = group.expect("the first of its name");
    assert!(group.peek("k").is_none(), "a peek loads nothing");
    let (first, second) = (group.lookup("k").await, group.lookup("k").await);
    let [first, second] = [first, second].map(|lookup| lookup.expect("a value"));
    assert_eq!((first.level, second.level), (Level::Origin, Level::Main));
    assert!(second.ttl.is_some_and(|ttl| ttl <= Duration::from_secs(60) && ttl > Duration::from_secs(30)));
    let impatient = group.get_within("slow", Duration::from_millis(20)).await;
    assert_eq!(impatient.expect_err("it takes an hour").kind(), ErrorKind::Deadline);
}

/// `NewServer`, `Addr`, `Status`, `Start`, `Stop`; S39: nobody has set up a logger, and nobody has to.
#[tokio::test]
async fn two_servers_of_a_process_have_an_address_and_a_life_each() {
    let [one, other] = [(); 2].map(|()| on_any_port().build().expect("the settings are in range"));
    assert_eq!((one.addr().as_str(), one.status()), ("127.0.0.1:0", Status::New));
    for server in [&one, &other] {
        server.start().await.expect("a free port");
        assert_eq!(server.status(), Status::Running);
        wait_for("a view of itself", || server.is_ready()).await;
    }
    assert_ne!(one.addr(), other.addr());
    assert!(!one.addr().ends_with(":0"), "the real port");
    assert!(matches!(one.start().await, Err(StartError::Running)));
    let report = one.stop().await;
    assert!(report.deregistered && report.drained);
    assert_eq!((one.status(), other.status()), (Status::Stopped, Status::Running));
    assert!(matches!(one.start().await, Err(StartError::Stopped)));
    one.stop().await;
    other.stop().await;
}

/// S9, S10: an address is what peers can reach, not four characters before a dot.
#[tokio::test]
async fn any_host_and_port_that_peers_can_reach_is_an_address_and_so_is_the_default() {
    let good =
        [DEFAULT_ADDR, "localhost:1", "10.0.0.1:6324", "cache-1:80", "node.example.com:80", "[::1]:65535"];
    for addr in good {
        let server = Server::builder().addr(addr).listen("127.0.0.1:0").build().expect("in range");
        server.start().await.unwrap_or_else(|error| panic!("{addr}: {error}"));
        assert_eq!(server.addr(), addr);
        server.stop().await;
    }
    assert_eq!(Server::builder().build().expect("in range").addr(), DEFAULT_ADDR);
    for addr in ["", "host", ":80", "host:", "host:99999", "0.0.0.0:80", "[::]:80"] {
        let server = Server::builder().addr(addr).listen("127.0.0.1:0").build().expect("in range");
        assert!(matches!(server.start().await, Err(StartError::Address { .. })), "{addr}");
    }
}

/// S1, R1: what crashed the Go system within seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fresh_keys_asked_for_twice_by_everybody_at_once_are_values_each_time() {
    let server = Server::builder().build().expect("the defaults are in range");
    let (group, loads) = counted(&server, "g");
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let group = group.clone();
        callers.spawn(async move {
            for index in 0..500 {
                let key = format!("key {index}");
                for _ in 0..2 {
                    let value = group.get(&key).await.expect("a value");
                    assert_eq!(value.as_bytes(), format!("value of {key}").as_bytes());
                }
            }
        });
    }
    callers.join_all().await;
    assert_eq!(loads.load(Ordering::SeqCst), 500, "one for each key");
    // And put again, and again.
    for _ in 0..5 {
        group.remove("key 0").await.expect("it is carried out");
        assert_eq!(group.get("key 0").await.expect("a value").as_bytes(), b"value of key 0");
    }
}

/// S3, R8.
#[tokio::test]
async fn a_loader_that_panics_fails_its_callers_and_the_next_call_loads_again() {
    let server = Server::builder().build().expect("the defaults are in range");
    let calls = AtomicUsize::new(0);
    let retriever = move |_: String| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            assert!(call > 0, "the first one fails");
            Ok::<_, RetrieveError>("v")
        }
    };
    let group = server.new_group("g", retriever).expect("the first of its name");
    let error = tokio::time::timeout(SOON, group.get("k")).await.expect("at once").expect_err("a panic");
    assert_eq!(error.kind(), ErrorKind::OriginFailed);
    let again = tokio::time::timeout(SOON, group.get("k")).await.expect("at once");
    assert_eq!(again.expect("a value").as_bytes(), b"v");
}

/// S16, R5: and whoever stops it, or asks it, is answered.
#[tokio::test]
async fn a_start_on_a_busy_port_fails_and_leaves_nothing_locked() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback works");
    let addr = taken.local_addr().expect("it listens").to_string();
    let server = Server::builder().addr(&addr).build().expect("in range");
    let (group, _) = counted(&server, "g");
    for _ in 0..2 {
        match server.start().await {
            Err(StartError::Listen { source, .. }) => assert_eq!(source.kind(), io::ErrorKind::AddrInUse),
            other => panic!("{other:?}"),
        }
    }
    let value = tokio::time::timeout(SOON, group.get("k")).await.expect("no lock is held");
    assert_eq!(value.expect("its own origin has it").as_bytes(), b"value of k");
    drop(taken);
    server.start().await.expect("it is free now");
    tokio::time::timeout(SOON, server.stop()).await.expect("no lock is held");
}

/// S30: what is loaded in a dead owner's place goes when a hot copy would.
#[tokio::test]
async fn a_dead_members_keys_are_not_kept_without_end() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback works");
    let gone = dead.local_addr().expect("it listens").to_string();
    drop(dead);
    let builder = on_any_port().peers([&gone]).hot_ttl(Duration::from_millis(300));
    let server = builder.build().expect("the settings are in range");
    let (group, _) = counted(&server, "g");
    server.start().await.expect("a free port");
    wait_for("a ring of two", || server.ring().members.len() == 2).await;
    let key_of = |addr: &str| {
        let mut keys = (0..1000).map(|index| format!("key {index}"));
        keys.find(|key| group.owner(key).as_deref() == Some(addr)).expect("it owns about half of them")
    };
    let (theirs, mine) = (key_of(&gone), key_of(&server.addr()));
    for key in [&theirs, &mine] {
        assert_eq!(group.get(key).await.expect("a value").as_bytes(), format!("value of {key}").as_bytes());
    }
    wait_for("an end of what another owns", || group.peek(&theirs).is_none()).await;
    assert!(group.peek(&mine).is_some(), "what this node owns stays");
    server.stop().await;
}

/// S33.
#[tokio::test]
async fn a_limit_of_zero_is_refused_and_not_unlimited() {
    type Setting = fn(ServerBuilder) -> ServerBuilder;
    let zero: [(&str, Setting); 6] = [
        ("budget", |builder| builder.budget(0)),
        ("max_value", |builder| builder.max_value(0)),
        ("max_key", |builder| builder.max_key(0)),
        ("max_flights", |builder| builder.max_flights(0)),
        ("max_waiters", |builder| builder.max_waiters(0)),
        ("shards", |builder| builder.shards(0)),
    ];
    for (named, with_zero) in zero {
        match with_zero(on_any_port()).build() {
            Err(ConfigError::OutOfRange { field, .. }) => assert_eq!(field, named),
            other => panic!("{named}: {other:?}"),
        }
    }
}

/// S34.
#[tokio::test]
async fn a_value_over_the_budget_is_delivered_and_evicts_nobody() {
    let server = Server::builder().budget(256 << 10).shards(1).build().expect("the settings are in range");
    let sized = |key: String| async move {
        let len = if key == "large" { 512 << 10 } else { 100 };
        Ok::<_, RetrieveError>(vec![7; len])
    };
    let group = server.new_group("g", sized).expect("the first of its name");
    let small: Vec<String> = (0..50).map(|index| format!("small {index}")).collect();
    for key in &small {
        group.get(key).await.expect("a value");
    }
    assert_eq!(group.get("large").await.expect("a value").len(), 512 << 10);
    assert!(group.peek("large").is_none());
    assert!(small.iter().all(|key| group.peek(key).is_some()));
    assert_eq!(server.stats().get("evictions"), Some(0));
}

/// S11, S35: a list with mistakes in it, while the node runs.
#[tokio::test]
async fn a_peer_that_is_listed_twice_is_one_member_and_can_be_removed() {
    let server = on_any_port().build().expect("the settings are in range");
    server.start().await.expect("a free port");
    let members = || server.ring().members.iter().map(|member| member.name.clone()).collect::<Vec<_>>();
    assert!(server.set_peers(["10.0.0.1:1", "10.0.0.1:1", &server.addr()]));
    wait_for("a ring of two", || members().len() == 2).await;
    assert!(server.set_peers([""; 0]));
    wait_for("a ring of one", || members() == [server.addr()]).await;
    server.stop().await;
}

/// S38, S40, S41.
#[tokio::test]
async fn a_get_logs_nothing() {
    let lines = Lines::default();
    let writer = lines.clone();
    let everything = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For this thread, which is the only one that this test runs on.
    let _guard = everything.set_default();
    let server = on_any_port().build().expect("the settings are in range");
    let (group, loads) = counted(&server, "g");
    for _ in 0..3 {
        for index in 0..10 {
            group.get(&format!("key {index}")).await.expect("a value");
        }
    }
    assert_eq!((loads.load(Ordering::SeqCst), lines.text().as_str()), (10, ""), "misses and hits");
    tracing::info!("canary");
    assert!(lines.text().contains("canary"), "the log is heard: {}", lines.text());
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
