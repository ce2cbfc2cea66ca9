//! etcd, spoken to over any runtime: the same keys, values and leases as the Go system's.

mod dialer;
mod endpoint;
mod watch;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    Channel, Client, Error as EtcdError, GetOptions, LeaseKeepAliveStream, LeaseKeeper, PutOptions,
    WatchOptions,
};
use futures_util::future::{Either, select};
use futures_util::lock::Mutex;
use futures_util::stream::{self, BoxStream, StreamExt};
use groupcache_core::{LeaseId, Revision, WatchEvent};
use tower::util::BoxCloneSyncService;

use super::{Granted, KeepAlive, Listing, Registration, Registry, RegistryError, record};
use crate::rt::Runtime;
use crate::secure::Security;
use dialer::{Dialer, Timing};
use endpoint::Endpoint;

/// How etcd is spoken to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EtcdConfig {
    /// `http://host:port` in plain text, `https://host:port` over [`security`](Self::security), or `host:port`: over it where there is one. At
    /// least one. They are tried in turn.
    pub endpoints: Vec<String>,
    /// After this an endpoint counts as dead. 1 s by default; keep it below `request_timeout`.
    pub connect_timeout: Duration,
    /// After this a call is given up, and the next goes to the next endpoint. 1.5 s by default; keep it below membership's `op_timeout`.
    pub request_timeout: Duration,
    /// How often a connection with an open watch is pinged. At least 6 s, since etcd cuts off who pings more often than every 5 s; 10 s by
    /// default.
    pub ping_interval: Duration,
    /// After this without an answer to a ping the connection is dead. 5 s by default.
    pub ping_timeout: Duration,
    /// How connections are secured: with `Tls` (feature `tls`), say. Without a certificate of its own it does for an etcd that asks for none.
    /// None by default.
    pub security: Option<Arc<dyn Security>>,
    /// Who signs in, where etcd asks for a name and a password. Nobody by default. In plain text the password can be read on the way.
    pub user: Option<EtcdUser>,
}

/// A user of etcd. The password is in no debug output and in no error.
#[derive(Clone)]
pub struct EtcdUser {
    name: String,
    password: String,
}

impl EtcdUser {
    /// The user `name`, with its password.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), password: password.into() }
    }
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// etcd's `--grpc-keepalive-min-time` is 5 s by default; a second more, since a ping that is early by a hair counts against us.
const MIN_PING_INTERVAL: Duration = Duration::from_secs(6);

impl EtcdConfig {
    /// The defaults, for these endpoints.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_millis(1500),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            security: None,
            user: None,
        }
    }
}

/// Members' records in etcd: key `groupcache/<addr>`, value `{"Op":0,"Addr":"<addr>","Metadata":null}`, under a lease.
///
/// One HTTP/2 connection is kept for everything, and made anew, to the next endpoint, when it breaks or does not answer; a watch ends with the
/// connection that calls have turned away from. Nothing is dialled before the first call. A user signs in with the first call, and again behind every
/// call that failed: it may have been for a token that had run out.
pub struct EtcdRegistry {
    runtime: Arc<dyn Runtime>,
    dialer: Dialer,
    client: Client,
    limit: Duration,
    keeper: Mutex<Option<Keeper>>,
    user: Option<EtcdUser>,
    /// Whether there is a token that is good for all that is known.
    signed_in: Mutex<bool>,
}

/// The open keep-alive stream of a lease.
struct Keeper {
    lease: LeaseId,
    requests: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

impl fmt::Debug for EtcdRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdRegistry").field("dialer", &self.dialer).finish_non_exhaustive()
    }
}

impl EtcdRegistry {
    /// A client of etcd on `runtime`. Talks to nobody yet.
    ///
    /// # Errors
    /// [`RegistryError::Endpoint`] names the endpoint that cannot be used, and why; also for a ping interval below 6 s.
    pub async fn new(runtime: Arc<dyn Runtime>, config: EtcdConfig) -> Result<Self, RegistryError> {
        let secured = config.security.is_some();
        let endpoints = config
            .endpoints
            .iter()
            .map(|text| Endpoint::parse(text, secured))
            .collect::<Result<Vec<_>, _>>()?;
        let refuse = |reason| RegistryError::Endpoint { endpoint: config.endpoints.join(","), reason };
        if endpoints.is_empty() {
            return Err(refuse("none is named"));
        }
        if config.ping_interval < MIN_PING_INTERVAL {
            return Err(refuse(
                "ping_interval must be at least 6 s: etcd cuts off who pings more often than every 5 s",
            ));
        }
        let timing = Timing {
            connect: config.connect_timeout,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
        };
        let dialer = Dialer::new(Arc::clone(&runtime), config.security, endpoints, timing);
        let channel = Channel::Custom(BoxCloneSyncService::new(dialer.clone()));
        let client = Client::from_channel(channel, None).await.map_err(|error| failed("connect", error))?;
        let (limit, user) = (config.request_timeout, config.user);
        let (keeper, signed_in) = (Mutex::new(None), Mutex::new(false));
        Ok(Self { runtime, dialer, client, limit, keeper, user, signed_in })
    }

    async fn sign_in(&self) -> Result<(), RegistryError> {
        let Some(EtcdUser { name, password }) = &self.user else { return Ok(()) };
        let mut signed_in = self.signed_in.lock().await;
        if !*signed_in {
            // The token is shared with this clone's original.
            let mut client = self.client.clone();
            let signing = client.update_user(Some((name.clone(), password.clone()))).await;
            signing.map_err(|error| failed("sign in", error))?;
            *signed_in = true;
        }
        Ok(())
    }

    /// Gives a call up in time, and turns away from a connection on which calls fail: another endpoint may do better.
    async fn limited<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let limit = self.limit;
        let dials = self.dialer.dials();
        let call = async {
            self.sign_in().await?;
            call.await
        };
        let result = match select(pin!(call), self.runtime.sleep(limit)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(RegistryError::TimedOut { operation, limit }),
        };
        if result.is_err() {
            *self.signed_in.lock().await = false;
            self.dialer.forget(dials).await;
        }
        result
    }

    async fn open_keeper(&self, lease: LeaseId) -> Result<Option<Keeper>, RegistryError> {
        match self.client.lease_client().keep_alive(lease.get()).await {
            Ok((requests, answers)) => Ok(Some(Keeper { lease, requests, answers })),
            // Opening sends the first keep-alive; etcd-client words the answer "no such lease" as this error.
            Err(EtcdError::LeaseKeepAliveError(_)) => Ok(None),
            Err(error) => Err(failed("keep-alive", error)),
        }
    }
}

impl Keeper {
    /// One keep-alive on the open stream.
    async fn beat(&mut self) -> Result<KeepAlive, RegistryError> {
        self.requests.keep_alive().await.map_err(|error| failed("keep-alive", error))?;
        let answer = self.answers.message().await.map_err(|error| failed("keep-alive", error))?;
        let answer = answer.ok_or(RegistryError::Malformed {
            operation: "keep-alive",
            reason: "the stream ended without an answer",
        })?;
        Ok(match u64::try_from(answer.ttl()) {
            Ok(seconds) if seconds > 0 => KeepAlive::Alive { ttl: Duration::from_secs(seconds) },
            _ => KeepAlive::Lost,
        })
    }
}

#[async_trait]
impl Registry for EtcdRegistry {
    async fn register(&self, me: &Registration, ttl: Duration) -> Result<Granted, RegistryError> {
        let call = async {
            let granted = self.client.lease_client().grant(whole_seconds(ttl), None).await;
            let granted = granted.map_err(|error| failed("grant a lease", error))?;
            let seconds = u64::try_from(granted.ttl()).map_err(|_| RegistryError::Malformed {
                operation: "grant a lease",
                reason: "a negative time to live",
            })?;
            let options = PutOptions::new().with_lease(granted.id());
            let (key, value) = (record::key(&me.addr), record::value(&me.addr, me.weight));
            let put = self.client.kv_client().put(key, value, Some(options)).await;
            put.map_err(|error| failed("put the record", error))?;
            Ok(Granted { lease: LeaseId::new(granted.id()), ttl: Duration::from_secs(seconds) })
        };
        self.limited("register", call).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, RegistryError> {
        let call = async {
            // Taken out, and put back only after an answer: a call that is given up half-way must not leave its answer to the next.
            let kept = self.keeper.lock().await.take().filter(|keeper| keeper.lease == lease);
            let mut keeper = match kept {
                Some(keeper) => keeper,
                None => match self.open_keeper(lease).await? {
                    Some(keeper) => keeper,
                    None => return Ok(KeepAlive::Lost),
                },
            };
            let answer = keeper.beat().await?;
            if answer != KeepAlive::Lost {
                *self.keeper.lock().await = Some(keeper);
            }
            Ok(answer)
        };
        self.limited("keep-alive", call).await
    }

    async fn deregister(&self, addr: &str, lease: Option<LeaseId>) -> Result<(), RegistryError> {
        let call = async {
            *self.keeper.lock().await = None;
            let deleted = self.client.kv_client().delete(record::key(addr), None).await;
            deleted.map_err(|error| failed("delete the record", error))?;
            let Some(lease) = lease else { return Ok(()) };
            match self.client.lease_client().revoke(lease.get()).await {
                Ok(_) => Ok(()),
                Err(EtcdError::GRpcStatus(status)) if status.code() == tonic::Code::NotFound => Ok(()),
                Err(error) => Err(failed("revoke the lease", error)),
            }
        };
        self.limited("deregister", call).await
    }

    async fn list(&self) -> Result<Listing, RegistryError> {
        let call = async {
            let options = GetOptions::new().with_prefix();
            let listed = self.client.kv_client().get(record::PREFIX, Some(options)).await;
            let listed = listed.map_err(|error| failed("list", error))?;
            let reason = "no header";
            let header = listed.header().ok_or(RegistryError::Malformed { operation: "list", reason })?;
            let read = |kv: &etcd_client::KeyValue| match record::parse(kv.key(), kv.value()) {
                Ok(record) => Some(record),
                Err(error) => {
                    watch::record_skipped(kv.key(), error);
                    None
                }
            };
            let records = listed.kvs().iter().filter_map(read).collect();
            Ok(Listing { records, revision: Revision::new(header.revision()) })
        };
        self.limited("list", call).await
    }

    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, WatchEvent>, RegistryError> {
        let call = async {
            let start = after.get().saturating_add(1);
            let options = WatchOptions::new().with_prefix().with_start_revision(start);
            let opened = self.client.watch_client().watch(record::PREFIX, Some(options)).await;
            let mut opened = opened.map_err(|error| failed("watch", error))?;
            let first = opened.message().await.map_err(|error| failed("watch", error))?;
            let reason = "the stream ended before it began";
            let first = first.ok_or(RegistryError::Malformed { operation: "watch", reason })?;
            let current = first.header().map_or(i64::MAX, |header| header.revision());
            if current < after.get() {
                // etcd came back with less than we saw. It would wait, in silence, for the revision to come round again.
                let compacted = WatchEvent::Compacted { revision: Revision::new(current) };
                return Ok(stream::iter([compacted]).boxed());
            }
            Ok(watch::events(opened, self.dialer.turned_away().await, &first))
        };
        self.limited("watch", call).await
    }
}

/// etcd counts leases in seconds: rounded up, and at least one.
fn whole_seconds(ttl: Duration) -> i64 {
    let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
    i64::try_from(seconds.max(1)).unwrap_or(i64::MAX)
}

fn failed(operation: &'static str, error: EtcdError) -> RegistryError {
    // etcd-client's error has no source; the status inside it has.
    let source: Box<dyn std::error::Error + Send + Sync> = match error {
        EtcdError::GRpcStatus(status) => Box::new(status),
        error => Box::new(error),
    };
    RegistryError::Failed { operation, source }
}
