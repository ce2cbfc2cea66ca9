//! Members that DNS knows: the addresses behind a name, or the targets of a service.

mod lookup;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use groupcache_core::{LeaseId, Revision, WatchEvent, in_words};

use super::{Granted, KeepAlive, Listing, Registration, Registry, RegistryError, StaticRegistry};
use crate::rt::Runtime;
use crate::thread::on_a_thread;
use lookup::{Found, LookupError, Servers, is_name};

/// How long an answer of nobody is good.
const EMPTY: Duration = Duration::from_secs(2);

/// What is asked of DNS, whom, and how often.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DnsConfig {
    asked: Asked,
    /// The name servers, each asked when those before it give no answer. None by default: those that `/etc/resolv.conf` names.
    pub servers: Vec<SocketAddr>,
    /// How long a name server may take for an answer. 1 s by default.
    pub timeout: Duration,
    /// The least time between two lookups. An answer is good for as long as it says (its TTL), within this and the next. 1 s by default.
    pub min_interval: Duration,
    /// The most time between two lookups. 30 s by default.
    pub max_interval: Duration,
}

#[derive(Clone, Debug)]
enum Asked {
    Hosts { name: String, port: u16 },
    Services { name: String },
}

impl DnsConfig {
    /// The members are at the addresses of `name` (A records, or AAAA where there are none of these), all with this port: a headless service of
    /// Kubernetes, say. A member's name on the ring is its `address:port`, which it must advertise. `name` is a whole name: nothing is appended to it.
    #[must_use]
    pub fn hosts(name: impl Into<String>, port: u16) -> Self {
        Self::new(Asked::Hosts { name: name.into(), port })
    }

    /// The members are the targets of the service `name` (SRV records, such as `_peers._tcp.cache.default.svc.cluster.local`). A member's name on the
    /// ring is its `target:port`, which it must advertise, and which stays when its address changes. Priorities and weights do not count.
    #[must_use]
    pub fn services(name: impl Into<String>) -> Self {
        Self::new(Asked::Services { name: name.into() })
    }

    fn new(asked: Asked) -> Self {
        Self {
            asked,
            servers: Vec::new(),
            timeout: Duration::from_secs(1),
            min_interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(30),
        }
    }

    fn name(&self) -> &str {
        match &self.asked {
            Asked::Hosts { name, .. } | Asked::Services { name } => name,
        }
    }

    fn look(&self) -> Result<Found, LookupError> {
        let servers = Servers { servers: &self.servers, limit: self.timeout };
        match &self.asked {
            Asked::Hosts { name, port } => servers.hosts(name, *port),
            Asked::Services { name } => servers.services(name),
        }
    }

    /// How long until the next lookup.
    fn interval(&self, ttl: Option<u32>) -> Duration {
        let wanted = ttl.map_or(EMPTY, |ttl| Duration::from_secs(ttl.into()));
        wanted.max(self.min_interval).min(self.max_interval.max(self.min_interval))
    }
}

/// Members that DNS knows, all of weight 1. Whoever puts them there takes them away: nothing is registered, beyond that a node is on its own ring.
///
/// It is looked up again and again, from when it is made until it is dropped. A name server that does not answer, or says that it failed, changes
/// nothing: the last view stays. A name that nobody has is an answer, of nobody.
pub struct DnsRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    config: DnsConfig,
    members: StaticRegistry,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether there was an answer yet.
    answered: bool,
    /// What went wrong last, so that it is told once.
    wrong: Option<String>,
    /// How many lookups have failed since one did not.
    failures: u32,
}

impl fmt::Debug for DnsRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsRegistry").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl DnsRegistry {
    /// Looks up on `runtime` from now on.
    ///
    /// # Errors
    /// [`RegistryError::Endpoint`]: the name is none.
    pub fn new(runtime: &Arc<dyn Runtime>, config: DnsConfig) -> Result<Self, RegistryError> {
        if !is_name(config.name()) {
            let endpoint = config.name().to_owned();
            return Err(RegistryError::Endpoint {
                endpoint,
                reason: "it is not a name that DNS can be asked for",
            });
        }
        let (members, state) = (StaticRegistry::default(), Mutex::default());
        let shared = Arc::new(Shared { config, members, state });
        let (watched, rt) = (Arc::downgrade(&shared), Arc::clone(runtime));
        runtime.spawn(Box::pin(async move {
            while let Some(interval) = keep_looking(&watched).await {
                rt.sleep(interval).await;
            }
        }));
        Ok(Self { shared })
    }
}

/// Looks once, and says when to look again; never, when nobody has any use for it.
async fn keep_looking(shared: &Weak<Shared>) -> Option<Duration> {
    let shared = shared.upgrade()?;
    Some(match shared.look().await {
        Ok(interval) => interval,
        Err(_) => shared.pause(),
    })
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks, takes on what was found, and says for how long that is good.
    async fn look(&self) -> Result<Duration, RegistryError> {
        let config = self.config.clone();
        let looked = on_a_thread("groupcache-dns", move || config.look()).await;
        let failed = |source| RegistryError::Failed { operation: "lookup", source };
        let looked = looked.ok_or(RegistryError::Panicked { operation: "lookup" });
        match looked.and_then(|looked| looked.map_err(|error| failed(error.into()))) {
            Ok(Found { addrs, ttl }) => {
                self.members.set_peers(addrs);
                *self.state() = State { answered: true, ..State::default() };
                Ok(self.config.interval(ttl))
            }
            Err(error) => {
                self.note_failure(&error);
                Err(error)
            }
        }
    }

    fn note_failure(&self, error: &RegistryError) {
        let wrong = in_words(error).to_string();
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.wrong.as_ref() != Some(&wrong) {
            tracing::warn!(name = self.config.name(), error = %wrong, "members cannot be looked up: those of before stay");
            state.wrong = Some(wrong);
        }
    }

    /// Twice as long with every failure.
    fn pause(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.state().failures.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
        self.config.min_interval.saturating_mul(doubled).min(self.config.max_interval)
    }
}

#[async_trait]
impl Registry for DnsRegistry {
    async fn register(&self, me: &Registration, ttl: Duration) -> Result<Granted, RegistryError> {
        // As everybody else sees it.
        self.shared.members.register(&Registration::new(Arc::clone(&me.addr), 1), ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, RegistryError> {
        self.shared.members.keep_alive(lease).await
    }

    async fn deregister(&self, addr: &str, lease: Option<LeaseId>) -> Result<(), RegistryError> {
        self.shared.members.deregister(addr, lease).await
    }

    async fn list(&self) -> Result<Listing, RegistryError> {
        // Before the first answer nobody knows who is there.
        if !self.shared.state().answered {
            self.shared.look().await?;
        }
        self.shared.members.list().await
    }

    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, WatchEvent>, RegistryError> {
        self.shared.members.watch(after).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_its_ttl_within_bounds() {
        let config = DnsConfig::hosts("cache.test", 1);
        for (ttl, seconds) in [(Some(0), 1), (Some(5), 5), (Some(u32::MAX), 30), (None, 2)] {
            assert_eq!(config.interval(ttl), Duration::from_secs(seconds), "{ttl:?}");
        }
    }
}
