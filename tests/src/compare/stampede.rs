//! Ten thousand callers of one cold key, at three nodes at the same moment.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use groupcache_async_std::AsyncStd;
use groupcache_runtime::{Group, Runtime, Server};
use groupcache_tokio::Tokio;

use super::host::Host;
use super::rounds::Progress;
use super::{Allocated, Bound, Meter, Outcome, Report, Samples, Setting, Subject};
use crate::ports::reserve;

/// The comparison.
pub(super) const SUBJECT: Subject = Subject {
    name: "stampede",
    about: "10,000 gets of one cold key at three nodes: loads, time, bytes a waiter",
    run,
    child: None,
};

const METHOD: &str = "\
Three nodes in one process, connected over loopback. 10,000 gets of one key that nobody has, a third at each node, are polled for the first time one after the other, \
before the origin has answered: what that allocates on the polling thread is counted. A load takes 200 ms. The time is that from the load's end to the last caller's \
value. A waiter's bytes are those of the future that `get` returns and those that waiting allocates; its place in the core's table (40 bytes) was reserved when the node was made.";

const CALLERS: usize = 10_000;
const NODES: usize = 3;
const LOAD: Duration = Duration::from_millis(200);

/// What nodes' origins have done.
#[derive(Debug, Default)]
struct Origin {
    loads: AtomicU64,
    ended: Mutex<Option<Instant>>,
}

impl Origin {
    async fn load(&self) -> &'static str {
        self.loads.fetch_add(1, Ordering::SeqCst);
        async_std::task::sleep(LOAD).await;
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        "value"
    }
}

/// What one stampede came to.
#[derive(Clone, Copy, Debug)]
struct Stampede {
    loads: f64,
    beyond_ms: f64,
    future: f64,
    allocated: f64,
}

/// Nodes that can be run down.
trait Nodes {
    /// Calls every node in turn for `key`, until there are as many calls as are wanted. Answers them and the bytes of one.
    fn gets<'a>(&'a self, key: &'a str) -> (Vec<BoxFuture<'a, ()>>, usize);
}

struct Ours<R>(Vec<(Server<R>, Group<R>)>);

impl<R: Runtime + Default> Ours<R> {
    async fn start(origin: &Arc<Origin>) -> Outcome<Self> {
        let addrs: Vec<String> = (0..NODES).map(|_| format!("127.0.0.1:{}", reserve())).collect();
        let mut nodes = Vec::new();
        for addr in &addrs {
            let server = Server::<R>::builder().addr(addr).peers(&addrs).build()?;
            let origin = Arc::clone(origin);
            let group = server.new_group("group", move |_: String| {
                let origin = Arc::clone(&origin);
                async move { Ok::<_, Infallible>(origin.load().await) }
            })?;
            server.start().await?;
            nodes.push((server, group));
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_up = |server: &Server<R>| server.ring().members.iter().all(|member| member.me || member.up);
        while !nodes.iter().all(|(server, _)| is_up(server)) {
            if Instant::now() > deadline {
                return Err("the nodes have not found each other in 10 s".into());
            }
            async_std::task::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self(nodes))
    }
}

impl<R: Runtime + Default> Nodes for Ours<R> {
    fn gets<'a>(&'a self, key: &'a str) -> (Vec<BoxFuture<'a, ()>>, usize) {
        let size = size_of_val(&self.0[0].1.get(key));
        let get = |number: usize| -> BoxFuture<'a, ()> {
            let get = self.0[number % NODES].1.get(key);
            Box::pin(async move {
                let value = get.await.expect("the origin's value");
                assert_eq!(&value[..], b"value");
            })
        };
        ((0..CALLERS).map(get).collect(), size)
    }
}

fn run(setting: &Setting) -> Outcome<Report> {
    let rounds = setting.pick(9, 3);
    let progress = Progress::new(SUBJECT.name, Host::ALL.len() * rounds);
    let mut report = Report::new(SUBJECT.name, METHOD);
    let origin = Arc::new(Origin::default());
    let nodes: [(Host, Box<dyn Nodes>); 2] = [
        (Host::Tokio, Box::new(Host::Tokio.block_on(Ours::<Tokio>::start(&origin))?)),
        (Host::AsyncStd, Box::new(Host::AsyncStd.block_on(Ours::<AsyncStd>::start(&origin))?)),
    ];
    let mut taken = [const { Vec::new() }; 2];
    for round in 0..rounds {
        for ((host, nodes), taken) in nodes.iter().zip(&mut taken) {
            progress.begin(host.name());
            let key = format!("cold {} {round}", host.name());
            taken.push(stampede(*host, &**nodes, &key, &origin, setting.meter)?);
            progress.done();
        }
    }
    for ((host, _), taken) in nodes.iter().zip(&taken) {
        add(&mut report, *host, taken);
    }
    Ok(report)
}

fn stampede(host: Host, nodes: &dyn Nodes, key: &str, origin: &Origin, meter: Meter) -> Outcome<Stampede> {
    let loads = origin.loads.load(Ordering::SeqCst);
    let (mut gets, future) = nodes.gets(key);
    let allocated = host.block_on(async {
        let allocated = first_polls(&mut gets, meter);
        join_all(gets).await;
        allocated
    });
    let done = Instant::now();
    let ended = origin.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
    let beyond = done - ended.ok_or("the value came without a load")?;
    Ok(Stampede {
        loads: (origin.loads.load(Ordering::SeqCst) - loads) as f64,
        beyond_ms: beyond.as_secs_f64() * 1e3,
        future: future as f64,
        allocated: allocated.bytes_kept as f64 / CALLERS as f64,
    })
}

/// Polls every call once.
fn first_polls(gets: &mut [BoxFuture<'_, ()>], meter: Meter) -> Allocated {
    let mut context = Context::from_waker(Waker::noop());
    meter(&mut || {
        for get in gets.iter_mut() {
            assert!(Pin::new(get).poll(&mut context).is_pending(), "the key is cold");
        }
    })
}

fn add(report: &mut Report, host: Host, taken: &[Stampede]) {
    let who = format!("groupcache-{}", host.name());
    let case = "10,000 callers, 3 nodes";
    let samples = |of: &dyn Fn(&Stampede) -> f64| Samples::new(taken.iter().map(of).collect());
    let (loads, beyond) = (samples(&|it| it.loads), samples(&|it| it.beyond_ms));
    let bytes = samples(&|it| it.future + it.allocated);
    report.demand(
        format!("{who}: loads of the key, at most in a round"),
        Bound::AtMost(1.0),
        Some(loads.range().1),
    );
    report.demand(format!("{who}: ms beyond the load"), Bound::AtMost(20.0), Some(beyond.median()));
    report.demand(format!("{who}: bytes a waiter"), Bound::AtMost(200.0), Some(bytes.median()));
    report.add("loads", case, &who, loads);
    report.add("ms from the load's end to the last value", case, &who, beyond);
    report.add("bytes a waiter", case, &who, bytes);
    report.add("of which allocated in waiting", case, &who, samples(&|it| it.allocated));
}
