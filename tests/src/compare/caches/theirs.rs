//! What a user would pick instead.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use async_trait::async_trait;
use bytes::Bytes;
use foyer_memory::{Cache as Foyer, CacheBuilder, EvictionConfig, LruConfig, S3FifoConfig};
use quick_cache::{UnitWeighter, sync::Cache as QuickCache};
use tinyufo::TinyUfo;

use super::super::keys::{KEY, Stream, value};
use super::{Cache, Contender, Outcome, count};

pub(in super::super) const QUICK_CACHE: Contender = Contender { name: "quick_cache", make: quick_cache };
pub(in super::super) const MOKA: Contender = Contender { name: "moka sync", make: moka };
pub(in super::super) const MOKA_FUTURE: Contender = Contender { name: "moka future", make: moka_future };
pub(in super::super) const MINI_MOKA: Contender = Contender { name: "mini-moka", make: mini_moka };
pub(in super::super) const FOYER_S3FIFO: Contender = Contender { name: "foyer s3fifo", make: foyer_s3fifo };
pub(in super::super) const FOYER_LRU: Contender = Contender { name: "foyer lru", make: foyer_lru };
pub(in super::super) const TINYUFO: Contender = Contender { name: "TinyUFO", make: tinyufo };
pub(in super::super) const GROUPCACHE: Contender =
    Contender { name: "the crate groupcache", make: groupcache };

fn quick_cache(entries: usize) -> Outcome<Box<dyn Cache>> {
    type Q = QuickCache<Box<str>, Bytes, UnitWeighter, RandomState>;
    Ok(Box::new(Q::with(entries, entries as u64, UnitWeighter, RandomState::new(), Default::default())))
}

impl Cache for QuickCache<Box<str>, Bytes, UnitWeighter, RandomState> {
    fn hits(&self, stream: &Stream) -> usize {
        count(stream, |key| self.get(key).is_some())
    }

    fn holds(&self, key: &str) -> bool {
        self.peek(key).is_some()
    }

    fn fill(&self, stream: &Stream) -> Outcome<()> {
        stream
            .keys()
            .filter(|key| self.get(*key).is_none())
            .for_each(|key| self.insert(key.into(), Bytes::from(value(key))));
        Ok(())
    }
}

fn moka(entries: usize) -> Outcome<Box<dyn Cache>> {
    let builder = moka::sync::Cache::<Box<str>, Bytes>::builder().max_capacity(entries as u64);
    Ok(Box::new(builder.build_with_hasher(RandomState::new())))
}

impl Cache for moka::sync::Cache<Box<str>, Bytes, RandomState> {
    fn hits(&self, stream: &Stream) -> usize {
        count(stream, |key| self.get(key).is_some())
    }

    fn holds(&self, key: &str) -> bool {
        self.contains_key(key)
    }

    fn fill(&self, stream: &Stream) -> Outcome<()> {
        stream
            .keys()
            .filter(|key| self.get(*key).is_none())
            .for_each(|key| self.insert(key.into(), Bytes::from(value(key))));
        Ok(())
    }

    fn settle(&self) {
        self.run_pending_tasks();
    }
}

/// moka's cache for async code, and what its futures are run by: nothing of it waits for anybody else.
struct MokaFuture(moka::future::Cache<Box<str>, Bytes, RandomState>);

fn moka_future(entries: usize) -> Outcome<Box<dyn Cache>> {
    let builder = moka::future::Cache::<Box<str>, Bytes>::builder().max_capacity(entries as u64);
    Ok(Box::new(MokaFuture(builder.build_with_hasher(RandomState::new()))))
}

impl Cache for MokaFuture {
    fn hits(&self, stream: &Stream) -> usize {
        async_std::task::block_on(async {
            let mut hits = 0;
            for key in stream.keys() {
                hits += usize::from(black_box(self.0.get(black_box(key)).await).is_some());
            }
            hits
        })
    }

    fn holds(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn fill(&self, stream: &Stream) -> Outcome<()> {
        async_std::task::block_on(async {
            for key in stream.keys() {
                if self.0.get(key).await.is_none() {
                    self.0.insert(key.into(), Bytes::from(value(key))).await;
                }
            }
        });
        Ok(())
    }

    fn settle(&self) {
        async_std::task::block_on(self.0.run_pending_tasks());
    }
}

/// Keys of this type where a cache cannot be asked by a borrowed text: the cheapest that there is, without an allocation of its own.
type Array = [u8; KEY];

fn array(key: &str) -> Array {
    key.as_bytes().try_into().expect("all keys have the same length")
}

fn mini_moka(entries: usize) -> Outcome<Box<dyn Cache>> {
    let builder = mini_moka::sync::Cache::<Array, Bytes>::builder().max_capacity(entries as u64);
    Ok(Box::new(builder.build_with_hasher(RandomState::new())))
}

impl Cache for mini_moka::sync::Cache<Array, Bytes, RandomState> {
    fn hits(&self, stream: &Stream) -> usize {
        count(stream, |key| self.get(&array(key)).is_some())
    }

    fn holds(&self, key: &str) -> bool {
        self.contains_key(&array(key))
    }

    fn fill(&self, stream: &Stream) -> Outcome<()> {
        for key in stream.keys().filter(|key| self.get(&array(key)).is_none()) {
            self.insert(array(key), Bytes::from(value(key)));
        }
        Ok(())
    }

    fn settle(&self) {
        mini_moka::sync::ConcurrentCacheExt::sync(self);
    }
}

fn foyer_s3fifo(entries: usize) -> Outcome<Box<dyn Cache>> {
    foyer(entries, S3FifoConfig::default())
}

fn foyer_lru(entries: usize) -> Outcome<Box<dyn Cache>> {
    foyer(entries, LruConfig::default())
}

fn foyer(entries: usize, eviction: impl Into<EvictionConfig>) -> Outcome<Box<dyn Cache>> {
    let builder = CacheBuilder::new(entries).with_shards(64).with_hash_builder(RandomState::new());
    let cache: Foyer<Box<str>, Bytes, RandomState> = builder.with_eviction_config(eviction).build();
    Ok(Box::new(cache))
}

impl Cache for Foyer<Box<str>, Bytes, RandomState> {
    fn hits(&self, stream: &Stream) -> usize {
        // Its callers get a handle to the entry; the value is cloned as the others clone it.
        count(stream, |key| self.get(key).map(|entry| entry.value().clone()).is_some())
    }

    fn holds(&self, key: &str) -> bool {
        self.contains(key)
    }

    fn fill(&self, stream: &Stream) -> Outcome<()> {
        for key in stream.keys().filter(|key| self.get(*key).is_none()) {
            self.insert(key.into(), Bytes::from(value(key)));
        }
        Ok(())
    }
}

fn tinyufo(entries: usize) -> Outcome<Box<dyn Cache>> {
    Ok(Box::new(TinyUfo::<Array, Bytes>::new(entries, entries)))
}

impl Cache for TinyUfo<Array, Bytes> {
    fn hits(&self, stream: &Stream) -> usize {
        count(stream, |key| self.get(&array(key)).is_some())
    }

    fn holds(&self, key: &str) -> bool {
        self.get(&array(key)).is_some()
    }

    fn fill(&self, stream: &Stream) -> Outcome<()> {
        for key in stream.keys().filter(|key| self.get(&array(key)).is_none()) {
            self.put(array(key), Bytes::from(value(key)), 1);
        }
        Ok(())
    }
}

/// The Rust crate of our name, end to end: a node that is alone.
struct Peer {
    cache: groupcache::Groupcache<Bytes>,
    runtime: tokio::runtime::Runtime,
    loads: Arc<AtomicUsize>,
}

struct Origin(Arc<AtomicUsize>);

#[async_trait]
impl groupcache::ValueLoader for Origin {
    type Value = Bytes;

    async fn load(&self, key: &str) -> Result<Bytes, Box<dyn Error + Send + Sync + 'static>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from(value(key)))
    }
}

fn groupcache(entries: usize) -> Outcome<Box<dyn Cache>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let me = groupcache::GroupcachePeer::from_socket(([127, 0, 0, 1], 1).into());
    let main = moka::future::Cache::builder().max_capacity(entries as u64).build();
    let loads = Arc::new(AtomicUsize::new(0));
    let origin = Origin(Arc::clone(&loads));
    let cache =
        runtime.block_on(async { groupcache::Groupcache::builder(me, origin).main_cache(main).build() });
    Ok(Box::new(Peer { cache, runtime, loads }))
}

impl Cache for Peer {
    fn hits(&self, stream: &Stream) -> usize {
        self.runtime.block_on(async {
            let (loads, mut gets) = (self.loads.load(Ordering::Relaxed), 0);
            for key in stream.keys() {
                gets += usize::from(black_box(self.cache.get(black_box(key)).await).is_ok());
            }
            gets - (self.loads.load(Ordering::Relaxed) - loads).min(gets)
        })
    }

    fn holds(&self, key: &str) -> bool {
        self.hits(&Stream::of(key)) == 1
    }

    fn fill(&self, stream: &Stream) -> Outcome<()> {
        self.runtime.block_on(async {
            for key in stream.keys() {
                self.cache.get(key).await?;
            }
            Ok(())
        })
    }
}
