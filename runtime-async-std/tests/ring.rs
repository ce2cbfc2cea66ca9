//! Two nodes in one process share a ring, with no runtime of tokio anywhere.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_std::task::{block_on, sleep};
use groupcache_async_std::{ErrorKind, Group, Level, RetrieveError, Server};
use tokio::runtime::Handle;

const SOON: Duration = Duration::from_secs(10);

/// A started node, with a group whose loads are counted.
struct Node {
    server: Server,
    group: Group,
    loads: Arc<AtomicUsize>,
}

impl Node {
    async fn start(peers: &[String]) -> Self {
        let server =
            Server::builder().addr("127.0.0.1:0").peers(peers).build().expect("the settings are in range");
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&loads);
        let retriever = move |key: String| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                outside_tokio("the retriever")?;
                sleep(Duration::from_millis(1)).await;
                outside_tokio("the retriever, once woken")?;
                if key == "missing" { Err(RetrieveError::not_found()) } else { Ok(format!("value of {key}")) }
            }
        };
        let group = server.new_group("g", retriever).expect("the first of its name");
        server.start().await.expect("a free port");
        Self { server, group, loads }
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

fn outside_tokio(who: &str) -> io::Result<()> {
    match Handle::try_current() {
        Err(_) => Ok(()),
        Ok(_) => Err(io::Error::other(format!("{who} runs inside tokio"))),
    }
}

async fn within<T>(what: &str, task: impl Future<Output = T>) -> T {
    async_std::future::timeout(SOON, task).await.unwrap_or_else(|_| panic!("{what} took more than {SOON:?}"))
}

async fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen within {SOON:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Two nodes that know and reach each other.
async fn pair() -> (Node, Node) {
    let first = within("a start", Node::start(&[])).await;
    let second = within("a start", Node::start(&[first.server.addr()])).await;
    assert!(first.server.set_peers([second.server.addr()]));
    for node in [&first, &second] {
        let met = || node.server.ring().members.iter().filter(|member| member.up).count() == 2;
        wait_for("a ring of two that are connected", || node.server.is_ready() && met()).await;
    }
    (first, second)
}

/// A key that `owner` owns.
fn key_of(owner: &Node, prefix: &str) -> String {
    let addr = owner.server.addr();
    let mut keys = (0..1000).map(|index| format!("{prefix} {index}"));
    keys.find(|key| owner.group.owner(key).as_deref() == Some(&*addr)).expect("it owns about half of them")
}

#[test]
fn a_get_goes_through_the_peer_and_enters_no_tokio_runtime() {
    block_on(async {
        let (first, second) = pair().await;
        let key = key_of(&second, "key");
        outside_tokio("the caller").expect("before the get");
        let lookup = within("a get", first.group.lookup(&key)).await.expect("its owner loads it");
        outside_tokio("the caller").expect("after the get");
        assert_eq!(lookup.value.as_ref(), format!("value of {key}").as_bytes());
        assert_eq!((lookup.level, first.loads(), second.loads()), (Level::Peer, 0, 1));
        let again = within("a get", second.group.lookup(&key)).await.expect("it is there");
        assert_eq!((again.level, second.loads()), (Level::Main, 1));
        for node in [first, second] {
            let report = within("a stop", node.server.stop()).await;
            assert!(report.deregistered && report.drained, "{report:?}");
        }
    });
}

#[test]
fn callers_on_tasks_of_async_std_share_one_load_at_the_owner() {
    block_on(async {
        let (first, second) = pair().await;
        let key = key_of(&second, "shared");
        let callers: Vec<_> = (0..40)
            .map(|index| {
                let group = if index % 2 == 0 { first.group.clone() } else { second.group.clone() };
                let key = key.clone();
                async_std::task::spawn(async move {
                    let value = group.get(&key).await.map_err(io::Error::other)?;
                    outside_tokio("a caller")?;
                    Ok::<_, io::Error>(value.as_ref().to_vec())
                })
            })
            .collect();
        for caller in callers {
            let value = within("a get", caller).await.expect("a value");
            assert_eq!(value, format!("value of {key}").into_bytes());
        }
        assert_eq!((first.loads(), second.loads()), (0, 1));
    });
}

#[test]
fn not_found_keeps_its_kind_across_the_wire() {
    block_on(async {
        let (first, second) = pair().await;
        let asker = if first.group.is_owner("missing") { &second } else { &first };
        let error = within("a get", asker.group.get("missing")).await.expect_err("there is no such key");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!((asker.loads(), first.loads() + second.loads()), (0, 1));
    });
}
