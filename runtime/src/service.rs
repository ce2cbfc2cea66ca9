//! What peers ask of this node, answered by the engine. A request that came from a peer is never forwarded again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use groupcache_core::{Answer, Failure, FailureKind, HashedKey, Instant, Invalidation, Key, Member, Route};
use groupcache_proto::FetchKey;

use crate::engine::Engine;
use crate::groups::GroupEntry;
use crate::secure::PeerIdentity;
use crate::sync::atomic::Ordering;
use crate::trace::TraceContext;
use crate::transport::{Known, PeerService, Served};

#[derive(Debug)]
pub(crate) struct Service {
    engine: Arc<Engine>,
}

impl Service {
    pub(crate) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    fn group(&self, name: &str) -> Result<Arc<GroupEntry>, Failure> {
        self.engine.groups.by_name(name).ok_or_else(|| {
            Failure::with_message(FailureKind::NoSuchGroup, format!("this node has no group `{name}`"))
        })
    }

    fn served(&self, answer: Answer) -> Result<Served, Failure> {
        let fetched = answer?;
        let ttl = (fetched.expires != Instant::MAX).then(|| self.engine.clock.until(fetched.expires));
        Ok(Served { value: fetched.value, ttl })
    }

    fn known(&self, group: &Result<Arc<GroupEntry>, Failure>, key: &[u8]) -> Known {
        let group = match group.as_ref().map_err(Clone::clone).and_then(|it| self.check_key(key).map(|()| it))
        {
            Ok(group) => group,
            Err(failure) => return Known::Answer(Err(failure)),
        };
        let key = self.engine.hashed(group.id, key);
        match self.engine.serve(&key) {
            Some(answer) => Known::Answer(self.served(answer)),
            None => Known::Missing { hash: key.hash() },
        }
    }

    /// Says what is wrong with a key that no load would take, before anything is looked up.
    fn check_key(&self, key: &[u8]) -> Result<(), Failure> {
        let max = self.engine.config.shard.max_key_len.get();
        let reason = match key.len() {
            0 => "the key is empty".to_owned(),
            len if len > max => format!("the key has {len} bytes: the limit is {max}"),
            _ if std::str::from_utf8(key).is_err() => "the key is not UTF-8".to_owned(),
            _ => return Ok(()),
        };
        Err(Failure::with_message(FailureKind::InvalidKey, reason))
    }
}

#[async_trait]
impl PeerService for Service {
    fn try_get(&self, group: &str, key: &[u8]) -> Known {
        self.known(&self.group(group), key)
    }

    fn try_get_all<'a>(
        &self,
        keys: &mut dyn Iterator<Item = FetchKey<'a>>,
        found: &mut dyn FnMut(FetchKey<'a>, Known),
    ) {
        // Keys of one group come together, as a rule: it is looked up once.
        let mut last = None;
        for key in keys {
            let (_, group) = match last.take().filter(|(name, _)| *name == key.group) {
                Some(known) => last.insert(known),
                None => last.insert((key.group, self.group(key.group))),
            };
            let known = self.known(group, key.key);
            found(key, known);
        }
    }

    async fn get(
        &self,
        group: &str,
        (key, hash): (&[u8], u64),
        limit: Option<Duration>,
        trace: Option<&TraceContext>,
    ) -> Result<Served, Failure> {
        let key = HashedKey::new(self.group(group)?.id, key, hash);
        let limit = limit.unwrap_or(self.engine.config.shard.load_timeout);
        self.served(self.engine.load(&key, limit, Route::LocalOnly, trace).answer().await)
    }

    async fn invalidate(&self, group: &str, key: Option<&[u8]>) -> Result<(), Failure> {
        let Some(group) = self.engine.groups.by_name(group) else {
            // What is not held need not be forgotten.
            return Ok(());
        };
        let what = match key {
            Some(key) => Invalidation::Key(Key::from(&self.engine.hashed(group.id, key))),
            None => Invalidation::Group(group.id),
        };
        self.engine.invalidate(&what);
        Ok(())
    }

    fn is_traced(&self) -> bool {
        self.engine.tracer.is_on()
    }

    fn is_member(&self, who: &PeerIdentity) -> bool {
        who.is_one_of(self.engine.ring().members().iter().map(Member::name))
    }

    fn note_fingerprint(&self, theirs: u64) {
        if theirs != 0 && theirs != self.fingerprint() {
            self.engine.mismatches.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note_peer(&self, from: &str) {
        self.engine.note_seen(from);
    }

    fn fingerprint(&self) -> u64 {
        self.engine.ring().fingerprint()
    }
}
