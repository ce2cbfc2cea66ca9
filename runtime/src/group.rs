//! A group: a namespace of keys with one origin, and what callers ask of it.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use groupcache_core::{
    Answer, ConfigError, Failure, FailureKind, Fetched, GroupConfig, Instant, Invalidation, Key, Level, Route,
};
use serde::Serialize;

use crate::engine::{Engine, LookUp, ME, Waiting};
use crate::error::{Error, ErrorKind};
use crate::groups::GroupEntry;
use crate::retriever::Retriever;
use crate::server::{GroupError, Server};
use crate::view::ByteView;
use crate::watch::Explanation;

/// A namespace of keys with one origin. Cheap to clone; all clones are the same group.
///
/// `get` is cancel-safe: a dropped call leaves no waiter behind and harms no other caller.
pub struct Group<R> {
    engine: Arc<Engine>,
    entry: Arc<GroupEntry>,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Clone for Group<R> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), entry: Arc::clone(&self.entry), runtime: PhantomData }
    }
}

impl<R> fmt::Debug for Group<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.entry.name).finish_non_exhaustive()
    }
}

/// A value, and how it was come by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lookup {
    /// The value.
    pub value: ByteView,
    /// Where it came from.
    pub level: Level,
    /// How long it lives here from now on; `None` where it does not expire.
    pub ttl: Option<Duration>,
}

/// What a removal or a flush came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RemoveReport {
    /// Members that did not acknowledge, by address: what they hold lives on for at most the hot TTL. Empty when everybody has forgotten.
    pub unacknowledged: Vec<String>,
}

impl<R> Group<R> {
    pub(crate) const fn new(engine: Arc<Engine>, entry: Arc<GroupEntry>) -> Self {
        Self { engine, entry, runtime: PhantomData }
    }

    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// The value of `key`: from this node's cache, from its owner, or from the origin. Waits for the load time-out at most.
    ///
    /// # Errors
    /// See [`ErrorKind`]. "Not found" is an error with a kind of its own; an empty value is a value.
    pub fn get<'a>(
        &'a self,
        key: &'a str,
    ) -> impl Future<Output = Result<ByteView, Error>> + Send + use<'a, R> {
        self.get_within(key, self.engine.config.shard.load_timeout)
    }

    /// Like [`get`](Self::get), for a caller that waits no longer than `limit`.
    ///
    /// # Errors
    /// Also [`ErrorKind::Deadline`], when `limit` is over.
    pub fn get_within<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> impl Future<Output = Result<ByteView, Error>> + Send + use<'a, R> {
        Get::new(self, key, limit, |_: &Self, fetched: Fetched| ByteView::from(fetched.value))
    }

    /// Like [`get`](Self::get), and tells where the value came from.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn lookup<'a>(
        &'a self,
        key: &'a str,
    ) -> impl Future<Output = Result<Lookup, Error>> + Send + use<'a, R> {
        self.lookup_within(key, self.engine.config.shard.load_timeout)
    }

    /// Like [`lookup`](Self::lookup), for a caller that waits no longer than `limit`.
    ///
    /// # Errors
    /// Those of [`get_within`](Self::get_within).
    pub fn lookup_within<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> impl Future<Output = Result<Lookup, Error>> + Send + use<'a, R> {
        Get::new(self, key, limit, Self::lookup_of)
    }

    /// The values of many keys: one answer for each, in the order of `keys`, each a value or its own error. Like that many [`get`](Self::get)s at the same
    /// time and cheaper: what is asked of one owner leaves in one message. A key may be named twice; it is asked for once. Waits for the load time-out at
    /// most, and returns when the last answer is there. Cancel-safe, as `get` is.
    ///
    /// ```no_run
    /// # async fn example<R>(scores: groupcache_runtime::Group<R>) {
    /// let names = ["Tom", "Jack", "Sam"];
    /// for (name, score) in names.iter().zip(scores.get_many(&names).await) {
    ///     match score {
    ///         Ok(score) => println!("{name}: {score}"),
    ///         Err(error) if error.is_not_found() => println!("{name} has none"),
    ///         Err(error) => println!("{name}: {error}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn get_many<K: AsRef<str>>(&self, keys: &[K]) -> Vec<Result<ByteView, Error>> {
        self.get_many_within(keys, self.engine.config.shard.load_timeout).await
    }

    /// Like [`get_many`](Self::get_many), for a caller that waits no longer than `limit`: answers that are not there by then are errors of the kind
    /// [`ErrorKind::Deadline`], the others are what they are.
    pub async fn get_many_within<K: AsRef<str>>(
        &self,
        keys: &[K],
        limit: Duration,
    ) -> Vec<Result<ByteView, Error>> {
        let bytes = keys.iter().map(|key| key.as_ref().as_bytes());
        let keys: Vec<_> = bytes.map(|key| self.engine.hashed(self.entry.id, key)).collect();
        let answers = self.engine.look_up_many(&keys, limit).await;
        let view = |answer: Answer| {
            answer.map(|fetched| fetched.value.into()).map_err(|failure| self.error(failure))
        };
        answers.into_iter().map(view).collect()
    }

    /// The value of `key` if it is held here; loads nothing and waits for nothing.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<ByteView> {
        let key = self.engine.hashed(self.entry.id, key.as_bytes());
        self.engine.peek(&key)?.ok().map(|fetched| fetched.value.into())
    }

    /// Forgets `key` in the whole fleet: its owner first, then every member. Loads that began before do not bring it back.
    ///
    /// # Errors
    /// The key is invalid, too many removals are under way, or the node has stopped. Members that could not be told are not an error: the report names them.
    pub async fn remove(&self, key: &str) -> Result<RemoveReport, Error> {
        let max = self.engine.config.shard.max_key_len.get();
        if key.is_empty() || key.len() > max {
            let message = format!("the key has {} bytes: it must have 1 to {max}", key.len());
            return Err(Error::new(ErrorKind::InvalidKey, message));
        }
        let key = Key::from(&self.engine.hashed(self.entry.id, key.as_bytes()));
        self.forget(Invalidation::Key(key)).await
    }

    /// Forgets every key of the group in the whole fleet. O(1) at each member.
    ///
    /// # Errors
    /// Too many removals are under way, or the node has stopped.
    pub async fn flush(&self) -> Result<RemoveReport, Error> {
        self.forget(Invalidation::Group(self.entry.id)).await
    }

    async fn forget(&self, what: Invalidation) -> Result<RemoveReport, Error> {
        let unacknowledged = self.engine.remove(what).await.map_err(|failure| self.error(failure))?;
        let name = |peer| self.engine.peer_name(peer);
        let mut unacknowledged: Vec<String> = unacknowledged.into_iter().map(name).collect();
        unacknowledged.sort();
        Ok(RemoveReport { unacknowledged })
    }

    /// The address of the member that owns `key`, by this node's ring; `None` while it knows of no member.
    #[must_use]
    pub fn owner(&self, key: &str) -> Option<String> {
        self.engine.ring().owner(key.as_bytes()).map(|owner| owner.name().to_string())
    }

    /// Whether this node owns `key`. Without members it owns everything.
    #[must_use]
    pub fn is_owner(&self, key: &str) -> bool {
        self.engine.ring().owner(key.as_bytes()).is_none_or(|owner| owner.id() == ME)
    }

    /// What this node knows of `key`: whose it is, whether it is held here and for how long, what is going on with it, and what was. For people who
    /// wonder. It counts as no look-up, loads nothing and asks nobody. O(loads in progress at the most, ever).
    #[must_use]
    pub fn explain(&self, key: &str) -> Explanation {
        self.engine.explain(&self.entry, key)
    }

    fn lookup_of(&self, fetched: Fetched) -> Lookup {
        let ttl = (fetched.expires != Instant::MAX).then(|| self.engine.clock.until(fetched.expires));
        Lookup { value: fetched.value.into(), level: fetched.level, ttl }
    }

    /// A failure in this group's words.
    fn error(&self, failure: Failure) -> Error {
        if failure.kind == FailureKind::NoSuchGroup {
            return Error::new(failure.kind, format!("no such group: `{}`", self.entry.name));
        }
        failure.into()
    }
}

/// A look-up of one key, which begins when it is first polled; `answer` puts what comes in the caller's terms.
///
/// Written by hand: an `async fn` within another keeps the arguments of both, and moves the answer from the one to the other.
struct Get<'a, R, A> {
    group: &'a Group<R>,
    stage: Stage<'a>,
    answer: A,
}

enum Stage<'a> {
    Begins { key: &'a str, limit: Duration },
    Waits(Waiting<'a>),
}

// A stampede is many of these.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Get<'static, (), ()>>() <= 80);

impl<'a, R, A> Get<'a, R, A> {
    const fn new(group: &'a Group<R>, key: &'a str, limit: Duration, answer: A) -> Self {
        Self { group, stage: Stage::Begins { key, limit }, answer }
    }
}

impl<R, A, T> Future for Get<'_, R, A>
where
    A: Fn(&Group<R>, Fetched) -> T + Unpin,
{
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let group = self.group;
        if let Stage::Begins { key, limit } = self.stage {
            let key = group.engine.hashed(group.entry.id, key.as_bytes());
            match group.engine.look_up(&key, limit, Route::Cluster) {
                LookUp::Known(answer) => return Poll::Ready(self.finish(answer)),
                LookUp::Waits(waiting) => self.stage = Stage::Waits(waiting),
            }
        }
        let Stage::Waits(waiting) = &mut self.stage else { return Poll::Pending };
        let answer = ready!(waiting.poll_unpin(context));
        Poll::Ready(self.finish(answer))
    }
}

impl<R, A, T> Get<'_, R, A>
where
    A: Fn(&Group<R>, Fetched) -> T,
{
    #[inline]
    fn finish(&self, answer: Answer) -> Result<T, Error> {
        match answer {
            Ok(fetched) => Ok((self.answer)(self.group, fetched)),
            Err(failure) => Err(self.group.error(failure)),
        }
    }
}

/// Sets a group up.
#[must_use = "a group exists once it is built"]
pub struct GroupBuilder<R> {
    server: Server<R>,
    name: String,
    config: GroupConfig,
    retriever: Option<Arc<dyn Retriever>>,
    /// The first setting that is out of range, where one is.
    refused: Option<ConfigError>,
}

impl<R> fmt::Debug for GroupBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<R> GroupBuilder<R> {
    pub(crate) fn new(server: Server<R>, name: String) -> Self {
        Self { server, name, config: GroupConfig::default(), retriever: None, refused: None }
    }

    /// Where values come from. Required.
    pub fn retriever(mut self, retriever: impl Retriever) -> Self {
        self.retriever = Some(Arc::new(retriever));
        self
    }

    /// How long a value lives where the retriever does not say. Without it, as long as it is worth its place.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.config.ttl = Some(ttl);
        self
    }

    /// Thousandths of a TTL that chance may take off, 0 to 500, so that keys loaded together do not expire together.
    pub const fn ttl_jitter_per_mille(mut self, per_mille: u16) -> Self {
        self.config.ttl_jitter_per_mille = per_mille;
        self
    }

    /// How long the owner keeps a "not found". Default 1 s; zero does not keep it.
    pub const fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.config.negative_ttl = ttl;
        self
    }

    /// How long after its expiry the owner still answers with a value while it loads it anew. Default: it does not.
    pub const fn stale_while_revalidate(mut self, grace: Duration) -> Self {
        self.config.stale_while_revalidate = grace;
        self
    }

    /// How long after its expiry the owner still answers with a value when loading it anew fails. Default: it does not.
    pub const fn stale_if_error(mut self, grace: Duration) -> Self {
        self.config.stale_if_error = grace;
        self
    }

    /// How long after its expiry the owner still holds a value for the origin to [say whether it has changed](Retriever::revalidate). Callers do not get it
    /// meanwhile. Default: not at all.
    pub const fn revalidate_for(mut self, time: Duration) -> Self {
        self.config.revalidate_for = time;
        self
    }

    /// Loads of this group in progress at most, in each of the node's [`shards`](crate::ServerBuilder::shards): past it a `get` that would start
    /// one more fails with [`ErrorKind::Overloaded`], at once. Default 1,024.
    pub fn max_loads(mut self, max: u32) -> Self {
        match NonZeroU32::new(max) {
            Some(max) => self.config.max_loads = max,
            None => {
                let expected = "above zero";
                self.refused.get_or_insert(ConfigError::OutOfRange { field: "max_loads", expected });
            }
        }
        self
    }

    /// Makes the group.
    ///
    /// # Errors
    /// There is a group of that name, the name is empty, no retriever was given, or a setting is out of range.
    pub fn build(self) -> Result<Group<R>, GroupError> {
        if let Some(refused) = self.refused {
            return Err(refused.into());
        }
        let retriever = self.retriever.ok_or(GroupError::NoRetriever)?;
        self.server.add_group(&self.name, self.config, retriever)
    }
}
