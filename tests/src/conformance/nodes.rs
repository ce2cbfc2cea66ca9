//! Nodes of either runtime behind one type, so that a cluster can have both.

use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use groupcache_async_std::AsyncStd;
use groupcache_runtime::{
    ByteView, ConfigError, Error, Explanation, Group, GroupBuilder, GroupError, Live, Lookup, RemoveReport,
    RingView, Runtime, Server, ServerBuilder, StartError, Stats, Status, StopReport,
};
use groupcache_tokio::Tokio;
use tokio::runtime::{Builder, Handle};

/// Which runtime a node runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Kind {
    /// tokio, multi-threaded.
    Tokio,
    /// async-std. Nothing of it may see a runtime of tokio.
    AsyncStd,
}

impl Kind {
    /// Whether the code that calls this runs where code of such a node has to.
    pub(super) fn is_at_home(self) -> bool {
        Handle::try_current().is_ok() == (self == Self::Tokio)
    }
}

/// The runtime of all tokio nodes of this process. The tests themselves run outside of it.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime of tokio")
});

/// A future that is polled and dropped inside the runtime of tokio, whoever does so.
struct Inside<'a, T>(Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>);

impl<T> Future for Inside<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let _inside = RUNTIME.enter();
        self.0.as_mut().expect("taken by drop only").as_mut().poll(context)
    }
}

impl<T> Drop for Inside<'_, T> {
    fn drop(&mut self) {
        let _inside = RUNTIME.enter();
        self.0 = None;
    }
}

/// A node of either runtime.
#[derive(Clone, Debug)]
pub(super) enum AnyServer {
    Tokio(Server<Tokio>),
    AsyncStd(Server<AsyncStd>),
}

/// A group of either runtime.
#[derive(Clone, Debug)]
pub struct AnyGroup(Of);

#[derive(Clone, Debug)]
enum Of {
    Tokio(Group<Tokio>),
    AsyncStd(Group<AsyncStd>),
}

/// Awaits `$call` where the node's runtime wants it.
macro_rules! on {
    ($type:ident, $of:expr, |$it:ident| $call:expr) => {
        match $of {
            $type::Tokio($it) => Inside(Some(Box::pin($call))).await,
            $type::AsyncStd($it) => $call.await,
        }
    };
}

/// Calls `$call`, which waits for nothing.
macro_rules! ask {
    ($type:ident, $of:expr, |$it:ident| $call:expr) => {
        match $of {
            $type::Tokio($it) => {
                let _inside = RUNTIME.enter();
                $call
            }
            $type::AsyncStd($it) => $call,
        }
    };
}

/// Settings that are the same for nodes of both runtimes.
pub(super) trait Setting {
    fn server<R: Runtime + Default>(&self, builder: ServerBuilder<R>) -> ServerBuilder<R>;
}

/// Settings of a group that are the same for both runtimes.
pub(super) trait GroupSetting {
    fn group<R>(&self, builder: GroupBuilder<R>) -> GroupBuilder<R>;
}

impl AnyServer {
    pub(super) fn build(kind: Kind, setting: &impl Setting) -> Result<Self, ConfigError> {
        Ok(match kind {
            Kind::Tokio => Self::Tokio(setting.server(Server::<Tokio>::builder()).build()?),
            Kind::AsyncStd => Self::AsyncStd(setting.server(Server::<AsyncStd>::builder()).build()?),
        })
    }

    pub(super) fn add_group(&self, name: &str, setting: &impl GroupSetting) -> Result<AnyGroup, GroupError> {
        Ok(AnyGroup(match self {
            Self::Tokio(server) => Of::Tokio(setting.group(server.group_builder(name)).build()?),
            Self::AsyncStd(server) => Of::AsyncStd(setting.group(server.group_builder(name)).build()?),
        }))
    }

    pub(super) async fn start(&self) -> Result<(), StartError> {
        on!(Self, self, |server| server.start())
    }

    pub(super) async fn stop(&self) -> StopReport {
        on!(Self, self, |server| server.stop())
    }

    pub(super) fn has_group(&self, name: &str) -> bool {
        ask!(Self, self, |server| server.group(name).is_some())
    }

    pub(super) fn destroy_group(&self, name: &str) -> bool {
        ask!(Self, self, |server| server.destroy_group(name))
    }

    pub(super) fn set_peers(&self, peers: &[String]) -> bool {
        ask!(Self, self, |server| server.set_peers(peers))
    }

    pub(super) fn addr(&self) -> String {
        ask!(Self, self, |server| server.addr())
    }

    pub(super) fn status(&self) -> Status {
        ask!(Self, self, |server| server.status())
    }

    pub(super) fn is_ready(&self) -> bool {
        ask!(Self, self, |server| server.is_ready())
    }

    pub(super) fn stats(&self) -> Stats {
        ask!(Self, self, |server| server.stats())
    }

    pub(super) fn live(&self) -> Live {
        ask!(Self, self, |server| server.live())
    }

    pub(super) fn ring(&self) -> RingView {
        ask!(Self, self, |server| server.ring())
    }
}

#[allow(missing_docs, clippy::missing_errors_doc, reason = "they are those of `Group`")]
impl AnyGroup {
    pub async fn get(&self, key: &str) -> Result<ByteView, Error> {
        on!(Of, &self.0, |group| group.get(key))
    }

    pub async fn get_within(&self, key: &str, limit: Duration) -> Result<ByteView, Error> {
        on!(Of, &self.0, |group| group.get_within(key, limit))
    }

    pub async fn lookup(&self, key: &str) -> Result<Lookup, Error> {
        on!(Of, &self.0, |group| group.lookup(key))
    }

    pub async fn get_many<K: AsRef<str> + Sync>(&self, keys: &[K]) -> Vec<Result<ByteView, Error>> {
        on!(Of, &self.0, |group| group.get_many(keys))
    }

    pub async fn get_many_within<K: AsRef<str> + Sync>(
        &self,
        keys: &[K],
        limit: Duration,
    ) -> Vec<Result<ByteView, Error>> {
        on!(Of, &self.0, |group| group.get_many_within(keys, limit))
    }

    pub async fn remove(&self, key: &str) -> Result<RemoveReport, Error> {
        on!(Of, &self.0, |group| group.remove(key))
    }

    pub async fn flush(&self) -> Result<RemoveReport, Error> {
        on!(Of, &self.0, |group| group.flush())
    }

    #[must_use]
    pub fn peek(&self, key: &str) -> Option<ByteView> {
        ask!(Of, &self.0, |group| group.peek(key))
    }

    #[must_use]
    pub fn explain(&self, key: &str) -> Explanation {
        ask!(Of, &self.0, |group| group.explain(key))
    }

    #[must_use]
    pub fn owner(&self, key: &str) -> Option<String> {
        ask!(Of, &self.0, |group| group.owner(key))
    }
}
