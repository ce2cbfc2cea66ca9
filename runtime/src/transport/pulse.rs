//! Whether a peer lives that must not be pinged.
//!
//! gRPC servers of other makes count HTTP/2 pings and cut off who sends them more often than every five minutes: grpc-go's default, and grpcio's. So
//! who speaks only `Get` is asked for no keys in place of a ping, by a call that it answers with UNIMPLEMENTED. That is sent only when something is
//! in flight and nothing was heard for a while, one at a time.
//!
//! Such a peer cannot say either that it has accepted a call. That it has answered what was sent later says as much: it lives, and is at work.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::{Either, Shared, WeakShared, select};
use groupcache_core::Cause;

use super::TransportConfig;
use super::deadline::within;
use crate::engine::lock;
use crate::rt::{BoxFuture, Runtime};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The peer did not answer, and nothing else was heard of it.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the keep-alive call got no answer in {0:?}")]
pub(super) struct Silent(Duration);

type Probe = BoxFuture<'static, ()>;

/// What was heard on one connection.
pub(super) struct Pulse {
    interval: Duration,
    limit: Duration,
    /// How many calls were begun.
    begun: AtomicU64,
    /// The latest call that was answered, by how many were begun by then.
    answered: AtomicU64,
    /// How often anything was heard.
    heard: AtomicU64,
    /// The probe under way, while anybody waits for it.
    probe: Mutex<Option<WeakShared<Probe>>>,
    is_silent: AtomicBool,
    /// Cuts the connection off.
    cut: Mutex<Option<oneshot::Sender<Cause>>>,
}

impl Pulse {
    /// The pulse of a connection that `cut` ends.
    pub(super) fn new(config: &TransportConfig, cut: oneshot::Sender<Cause>) -> Arc<Self> {
        Arc::new(Self {
            interval: config.keep_alive_interval,
            limit: config.keep_alive_timeout,
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            probe: Mutex::new(None),
            is_silent: AtomicBool::new(false),
            cut: Mutex::new(Some(cut)),
        })
    }

    /// A call begins. Answers its number.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A call is being answered.
    pub(super) fn note_answer(&self, call: u64) {
        self.answered.fetch_max(call, Ordering::AcqRel);
        self.note_heard();
    }

    /// Something has come.
    pub(super) fn note_heard(&self) {
        self.heard.fetch_add(1, Ordering::AcqRel);
    }

    /// Why calls fail, where that is for the peer's silence.
    pub(super) fn silence(&self) -> Option<Silent> {
        self.is_silent.load(Ordering::Acquire).then_some(Silent(self.limit))
    }

    /// Waits for a call that may take up to `patience`, and sees to it that the peer lives meanwhile: `ask` makes the call that takes a ping's place.
    /// Says once, by `accepted`, that the peer has answered what was sent later than this call.
    pub(super) async fn watch<T>(
        self: &Arc<Self>,
        rt: &Arc<dyn Runtime>,
        patience: Duration,
        ask: impl Fn() -> BoxFuture<'static, ()>,
        call: impl Future<Output = T>,
        accepted: impl FnOnce(),
    ) -> T {
        let mut call = pin!(call);
        // It is sent when it is polled first.
        if let Some(answer) = call.as_mut().now_or_never() {
            return answer;
        }
        let sent = self.begun.load(Ordering::Acquire);
        let mut accepted = Some(accepted);
        // Who waits for less than the interval wants to know in time, too.
        let pause = self.interval.min(patience / 2);
        loop {
            let heard = self.heard.load(Ordering::Acquire);
            match select(call.as_mut(), rt.sleep(pause)).await {
                Either::Left((answer, _)) => return answer,
                Either::Right(((), _)) => {}
            }
            if self.heard.load(Ordering::Acquire) == heard {
                match select(call.as_mut(), self.probe(rt, &ask)).await {
                    Either::Left((answer, _)) => return answer,
                    Either::Right(((), _)) => {}
                }
            }
            if self.answered.load(Ordering::Acquire) > sent
                && let Some(accepted) = accepted.take()
            {
                accepted();
            }
        }
    }

    /// The probe under way, or one that begins.
    fn probe(
        self: &Arc<Self>,
        rt: &Arc<dyn Runtime>,
        ask: impl Fn() -> BoxFuture<'static, ()>,
    ) -> Shared<Probe> {
        let mut probe = lock(&self.probe);
        if let Some(running) = probe.as_ref().and_then(WeakShared::upgrade) {
            return running;
        }
        let (pulse, rt, asked) = (Arc::clone(self), Arc::clone(rt), ask());
        let begun: Probe = Box::pin(async move {
            let heard = pulse.heard.load(Ordering::Acquire);
            let ended = within(&*rt, pulse.limit, asked).await;
            // A call that cannot be made, say since the connection takes no more, tells nothing of the peer.
            if ended.is_none() && pulse.heard.load(Ordering::Acquire) == heard {
                pulse.cut_off();
            }
        });
        let begun = begun.shared();
        *probe = begun.downgrade();
        begun
    }

    fn cut_off(&self) {
        self.is_silent.store(true, Ordering::Release);
        if let Some(cut) = lock(&self.cut).take() {
            let _ = cut.send(Arc::new(Silent(self.limit))); // The connection may have gone by itself.
        }
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse").field("heard", &self.heard).finish_non_exhaustive()
    }
}
