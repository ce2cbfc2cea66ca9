//! The two gRPC services, over whatever answers for this node's keys.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use groupcache_core::{Failure, FailureKind, LoadError, Value};
use groupcache_proto::groupcachepb::group_cache_server::GroupCache;
use groupcache_proto::groupcachepb::{GetRequest, GetResponse};
use groupcache_proto::v1::peer_server::Peer;
use groupcache_proto::v1::{FetchRequest, InvalidateReply, InvalidateRequest, Item, invalidate_request};
use groupcache_proto::{FetchKey, status_of_failure};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::answers::{Answers, Pending};
use super::deadline::{timeout_of, within};
use super::{MESSAGE_OVERHEAD, TransportConfig};
use crate::rt::Runtime;
use crate::trace::TraceContext;

/// A value, as a peer gets it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// The value.
    pub(crate) value: Value,
    /// How long this node will still keep it; `None` when it does not expire.
    pub(crate) ttl: Option<Duration>,
}

/// What is known of a key at once.
#[derive(Debug)]
pub(crate) enum Known {
    /// All there is to know.
    Answer(Result<Served, Failure>),
    /// It must be loaded: by [`PeerService::get`], which takes the key's hash, so that it is made once.
    Missing {
        /// The service's own hash of the key.
        hash: u64,
    },
}

/// What answers peers: this node's cache and origin. A request from a peer is never passed on to another.
#[async_trait]
pub(crate) trait PeerService: Send + Sync + 'static {
    /// What is known of `key` at once, without waiting. Called on the connection's task.
    fn try_get(&self, group: &str, key: &[u8]) -> Known;

    /// [`try_get`](Self::try_get) of all keys of a batch: tells `found` what is known of each, in order.
    fn try_get_all<'a>(
        &self,
        keys: &mut dyn Iterator<Item = FetchKey<'a>>,
        found: &mut dyn FnMut(FetchKey<'a>, Known),
    ) {
        for key in keys {
            found(key, self.try_get(key.group, key.key));
        }
    }

    /// Loads a key that is [`Missing`](Known::Missing), within `limit` where the peer set one, in the trace that the peer asks in. Dropped when the peer goes
    /// away.
    async fn get(
        &self,
        group: &str,
        key: (&[u8], u64),
        limit: Option<Duration>,
        trace: Option<&TraceContext>,
    ) -> Result<Served, Failure>;

    /// Forgets a key of a group, or with `None` every key.
    async fn invalidate(&self, group: &str, key: Option<&[u8]>) -> Result<(), Failure>;

    /// Whether it is worth reading what trace a peer asks in.
    fn is_traced(&self) -> bool {
        false
    }

    /// Takes note of the fingerprint of an asking peer's ring.
    fn note_fingerprint(&self, theirs: u64);

    /// Takes note that the member at `from` has connected. Anybody may claim that: it must be harmless.
    fn note_peer(&self, from: &str);

    /// The fingerprint of this node's ring.
    fn fingerprint(&self) -> u64;
}

/// The generated services' implementation. A clone shares everything.
#[derive(Clone)]
pub(super) struct Handler {
    pub(super) rt: Arc<dyn Runtime>,
    pub(super) service: Arc<dyn PeerService>,
    pub(super) config: Arc<TransportConfig>,
}

impl Handler {
    async fn get_one(
        &self,
        group: &str,
        key: &[u8],
        limit: Option<Duration>,
        trace: Option<&TraceContext>,
    ) -> Result<Served, Failure> {
        let known = match not_empty(key, self.service.try_get(group, key)) {
            Known::Answer(answer) => answer,
            Known::Missing { hash } => {
                let loading = self.service.get(group, (key, hash), limit, trace);
                match limit {
                    None => loading.await,
                    Some(limit) => within(&*self.rt, limit, loading)
                        .await
                        .unwrap_or_else(|| Err(Failure::new(FailureKind::Deadline))),
                }
            }
        };
        known.and_then(|served| self.fitting(served))
    }

    /// `served`, unless no message can carry it.
    fn fitting(&self, served: Served) -> Result<Served, Failure> {
        let limit = self.config.max_message.saturating_sub(MESSAGE_OVERHEAD);
        if served.value.len() <= limit {
            return Ok(served);
        }
        let why = format!("it has {} bytes: the limit is {limit}", served.value.len());
        Err(Failure::with_message(FailureKind::ValueTooLarge, why))
    }

    /// A key's answer that is still to come.
    fn pending(
        &self,
        index: u32,
        group: Arc<str>,
        (key, hash): (Bytes, u64),
        limit: Option<Duration>,
        trace: Option<TraceContext>,
    ) -> Pending {
        let handler = self.clone();
        Box::pin(async move {
            let result = handler.service.get(&group, (&key, hash), limit, trace.as_ref()).await;
            handler.item(index, result)
        })
    }

    fn item(&self, index: u32, result: Result<Served, Failure>) -> Item {
        match result.and_then(|served| self.fitting(served)) {
            Ok(served) => Item::new(index, Ok((served.value, served.ttl))),
            Err(failure) => Item::new(index, Err(&failure)),
        }
    }

    /// The trace that a call says it is part of, where that is worth reading.
    fn trace_of(&self, metadata: &MetadataMap) -> Option<TraceContext> {
        if self.service.is_traced() { TraceContext::from_headers(metadata.as_ref()) } else { None }
    }

    fn answers(
        &self,
        request: &FetchRequest,
        limit: Option<Duration>,
        trace: Option<&TraceContext>,
    ) -> Result<Answers, Status> {
        let keys = request.keys.len();
        if keys > self.config.max_keys {
            let why = format!("the request has {keys} keys: the limit is {}", self.config.max_keys);
            return Err(status_of_failure(&Failure::with_message(FailureKind::Overloaded, why), ""));
        }
        let entries = request.entries().map_err(|error| Status::invalid_argument(error.to_string()))?;
        // A request for no keys only asks who is there: its sender may not have a ring yet.
        if keys > 0 {
            self.service.note_fingerprint(request.fingerprint);
        }
        if !request.from.is_empty() {
            self.service.note_peer(&request.from);
        }

        let groups: Vec<Arc<str>> = request.groups.iter().map(|name| Arc::from(name.as_str())).collect();
        let mut answers = Answers::new(&self.rt, &self.config, self.service.fingerprint(), limit);
        self.service.try_get_all(&mut entries.into_iter(), &mut |entry, known| {
            let (index, key) = (entry.index, entry.key);
            match not_empty(key, known) {
                Known::Answer(answer) => answers.push_known(self.item(index, answer)),
                Known::Missing { hash } => {
                    let limit = entry.remaining.into_iter().chain(limit).min();
                    let own =
                        Some(entry.traceparent).filter(|own| !own.is_empty() && self.service.is_traced());
                    let own = own.and_then(|own| TraceContext::parse(own, Some(entry.tracestate)));
                    let trace = own.or_else(|| trace.cloned());
                    let group = groups.iter().find(|name| ***name == *entry.group).cloned();
                    let group = group.unwrap_or_else(|| Arc::from(entry.group));
                    answers
                        .push_pending(index, self.pending(index, group, (key.clone(), hash), limit, trace));
                }
            }
        });
        Ok(answers)
    }
}

#[async_trait]
impl GroupCache for Handler {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let limit = timeout_of(request.metadata()).map_err(|status| *status)?;
        let trace = self.trace_of(request.metadata());
        let GetRequest { group, key } = request.into_inner();
        let served = guarded(self.get_one(&group, key.as_bytes(), limit, trace.as_ref())).await?;
        match served {
            Ok(served) => Ok(Response::new(GetResponse { value: served.value.into() })),
            Err(failure) => Err(status_of_failure(&failure, &group)),
        }
    }
}

#[async_trait]
impl Peer for Handler {
    type FetchStream = Answers;

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Answers>, Status> {
        let limit = timeout_of(request.metadata()).map_err(|status| *status)?;
        let trace = self.trace_of(request.metadata());
        let request = request.into_inner();
        guarded(async { self.answers(&request, limit, trace.as_ref()) }).await?.map(Response::new)
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateReply>, Status> {
        let limit = timeout_of(request.metadata()).map_err(|status| *status)?;
        let InvalidateRequest { group, what } = request.into_inner();
        let key = match &what {
            Some(invalidate_request::What::Key(key)) => Some(&key[..]),
            Some(invalidate_request::What::WholeGroup(true)) => None,
            Some(invalidate_request::What::WholeGroup(false)) | None => {
                return Err(Status::invalid_argument("the request names neither a key nor the whole group"));
            }
        };
        let forget = self.service.invalidate(&group, key);
        let forgotten = guarded(async {
            match limit {
                None => forget.await,
                Some(limit) => within(&*self.rt, limit, forget)
                    .await
                    .unwrap_or_else(|| Err(Failure::new(FailureKind::Deadline))),
            }
        });
        match forgotten.await? {
            Ok(()) => Ok(Response::new(InvalidateReply {})),
            Err(failure) => Err(status_of_failure(&failure, &group)),
        }
    }
}

/// What is known of a key, which must not be empty.
fn not_empty(key: &[u8], known: Known) -> Known {
    if key.is_empty() { Known::Answer(Err(LoadError::EmptyKey.into())) } else { known }
}

/// `work`'s result; a panic in it costs this call and nothing else.
async fn guarded<T>(work: impl Future<Output = T>) -> Result<T, Status> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| panicked())
}

/// INTERNAL, which the peer reads as "no answer": it asks elsewhere.
pub(super) fn panicked() -> Status {
    tracing::error!("a peer's request made this node panic");
    Status::internal("the node panicked over this request")
}
