//! groupcache: the core's shards behind the runtime's kind of lock, and groups of both adapters.

use std::future::Future;
use std::hint::black_box;
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ahash::RandomState;
use groupcache_core::{
    ENTRY_OVERHEAD, Effects, GroupConfig, GroupId, HashedKey, Instant, Intent, Load, LoadRequest,
    Outcome as Origin, PeerId, Placement, Ring, RingEpoch, Shard, ShardConfig, Value, part_of,
};
use groupcache_runtime::trace::TraceIds;
use groupcache_runtime::{Group, RetrieveError, Server, ServerBuilder};
use groupcache_tokio::Tokio;

use super::super::keys::{KEY, Stream, VALUE, value};
use super::{Cache, Contender, Outcome, count};

pub(in super::super) const CORE: Contender = Contender { name: "groupcache core", make: core };
pub(in super::super) const GROUP_TOKIO: Contender =
    Contender { name: "groupcache Group::get, tokio", make: tokio };
/// What tracing costs a hit: nothing, since a hit knows nothing of it.
pub(in super::super) const GROUP_TRACED: Contender =
    Contender { name: "groupcache Group::get, tokio, tracing on", make: traced };
pub(in super::super) const GROUP_ASYNC_STD: Contender =
    Contender { name: "groupcache Group::get, async-std", make: async_std };

const GROUP: GroupId = GroupId::new(0);
/// As many as a node takes on two cores.
const SHARDS: NonZeroU16 = NonZeroU16::new(8).expect("a constant above zero");

/// What `entries` entries are charged, and a fiftieth on top: shards do not get the same number of keys each, and the policy's tables are charged, too.
fn budget(entries: usize) -> u64 {
    let charge = (KEY + VALUE) as u64 + ENTRY_OVERHEAD;
    entries as u64 * (charge + 32) * 51 / 50
}

/// Shards as the runtime holds them, without the runtime.
struct Core {
    shards: Vec<RwLock<Shard<()>>>,
    hasher: RandomState,
    now: Instant,
}

fn core(entries: usize) -> Outcome<Box<dyn Cache>> {
    let ring = Arc::new(Ring::empty(Placement::default(), RingEpoch::new(0)));
    let now = Instant::from_nanos(1);
    let shard = |index| {
        let mut config = ShardConfig::default();
        config.budget = part_of(budget(entries), SHARDS, index);
        (config.hot_per_mille, config.negative_per_mille) = (0, 0);
        let mut shard = Shard::new(index, config, PeerId::new(0), Arc::clone(&ring), index.into(), now)?;
        shard.add_group(GROUP, GroupConfig::default())?;
        Outcome::Ok(RwLock::new(shard))
    };
    let shards = (0..SHARDS.get()).map(shard).collect::<Outcome<_>>()?;
    Ok(Box::new(Core { shards, hasher: RandomState::new(), now }))
}

impl Core {
    fn find<'a>(&self, key: &'a str) -> (HashedKey<'a>, &RwLock<Shard<()>>) {
        let hash = self.hasher.hash_one((GROUP.index(), key.as_bytes()));
        let key = HashedKey::new(GROUP, key.as_bytes(), hash);
        (key, &self.shards[usize::from(key.shard(SHARDS.get()))])
    }
}

impl Cache for Core {
    fn hits(&self, stream: &Stream) -> usize {
        count(stream, |key| {
            let (key, shard) = self.find(key);
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.get(self.now, &key).is_some_and(|answer| answer.is_ok())
        })
    }

    fn holds(&self, key: &str) -> bool {
        let (key, shard) = self.find(key);
        shard.read().unwrap_or_else(PoisonError::into_inner).get(self.now, &key).is_some()
    }

    fn fill(&self, stream: &Stream) -> Outcome<()> {
        let mut out = Effects::new();
        for text in stream.keys() {
            let (key, shard) = self.find(text);
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let request = LoadRequest::new(key, (), self.now.saturating_add(Duration::from_secs(1)));
            match shard.load(self.now, request, &mut out) {
                Ok(Load::Ready { .. }) => continue,
                Ok(Load::Wait(_)) => {}
                Err(refused) => return Err(refused.error.into()),
            }
            let Some(Intent::Load { flight, attempt, .. }) = out.drain_intents().next() else {
                return Err("the origin is not asked".into());
            };
            let outcome = Origin::Value { value: Value::from(value(text)), ttl: None };
            shard.handle_loaded(self.now, flight, attempt, outcome, &mut out);
            out.drain_completions();
            drop(shard);
            out.free_evicted();
        }
        Ok(())
    }
}

/// A group of a node that is alone.
struct Ours<R, B> {
    group: Group<R>,
    block_on: B,
    loads: Arc<AtomicUsize>,
    _server: Server<R>,
}

/// Runs a future to its end.
trait BlockOn: Send + Sync {
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T;
}

impl BlockOn for ::tokio::runtime::Runtime {
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        Self::block_on(self, future)
    }
}

/// async-std's runtime is the process's.
struct AsyncStd;

impl BlockOn for AsyncStd {
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        ::async_std::task::block_on(future)
    }
}

fn tokio(entries: usize) -> Outcome<Box<dyn Cache>> {
    on_tokio(entries, |builder| builder)
}

fn traced(entries: usize) -> Outcome<Box<dyn Cache>> {
    on_tokio(entries, |builder| builder.tracing(Arc::new(TraceIds::new())))
}

fn on_tokio(
    entries: usize,
    set: impl FnOnce(ServerBuilder<Tokio>) -> ServerBuilder<Tokio>,
) -> Outcome<Box<dyn Cache>> {
    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let builder = groupcache_tokio::Server::builder().budget(budget(entries)).hot_per_mille(0);
    let server = set(builder).build()?;
    drop(_inside);
    ours(server, runtime)
}

fn async_std(entries: usize) -> Outcome<Box<dyn Cache>> {
    ours(groupcache_async_std::Server::builder().budget(budget(entries)).hot_per_mille(0).build()?, AsyncStd)
}

fn ours<R: Send + Sync + 'static>(
    server: Server<R>,
    block_on: impl BlockOn + 'static,
) -> Outcome<Box<dyn Cache>> {
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let origin = move |key: String| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, RetrieveError>(value(&key)) }
    };
    let group = block_on.block_on(async { server.new_group("scores", origin) })?;
    Ok(Box::new(Ours { group, block_on, loads, _server: server }))
}

impl<R: Send + Sync, B: BlockOn> Cache for Ours<R, B> {
    fn hits(&self, stream: &Stream) -> usize {
        self.block_on.block_on(async {
            let (loads, mut gets) = (self.loads.load(Ordering::Relaxed), 0);
            for key in stream.keys() {
                gets += usize::from(black_box(self.group.get(black_box(key)).await).is_ok());
            }
            gets - (self.loads.load(Ordering::Relaxed) - loads).min(gets)
        })
    }

    fn holds(&self, key: &str) -> bool {
        self.group.peek(key).is_some()
    }

    fn fill(&self, stream: &Stream) -> Outcome<()> {
        self.block_on.block_on(async {
            for key in stream.keys() {
                self.group.get(key).await?;
            }
            Ok(())
        })
    }
}
