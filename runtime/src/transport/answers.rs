//! The answer to a batch: at once what is known at once, and the rest as it becomes known.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use groupcache_core::{Failure, FailureKind};
use groupcache_proto::v1::{FetchReply, Item};
use prost::Message;
use tonic::Status;

use super::TransportConfig;
use super::handler::panicked;
use crate::rt::{BoxFuture, Runtime};

/// A key's answer that is still to come.
pub(super) type Pending = BoxFuture<'static, Item>;

/// Replies are filled up to here, so that a batch of large values streams. An item that is larger goes alone.
const FULL: usize = 256 * 1024;

/// The reply stream of one call. Dropping it drops the loads' waiters: nobody is left to tell.
pub(crate) struct Answers {
    known: VecDeque<FetchReply>,
    known_bytes: usize,
    pending: FuturesUnordered<Pending>,
    unanswered: BTreeSet<u32>,
    /// Taken out of `pending`, and did not fit into the reply that was being filled.
    left_over: Option<Item>,
    deadline: Option<BoxFuture<'static, ()>>,
    full: usize,
}

impl Answers {
    pub(super) fn new(
        rt: &Arc<dyn Runtime>,
        config: &TransportConfig,
        fingerprint: u64,
        limit: Option<Duration>,
    ) -> Self {
        let first = FetchReply { items: Vec::new(), fingerprint: Some(fingerprint) };
        Self {
            known: VecDeque::from([first]),
            known_bytes: 0,
            pending: FuturesUnordered::new(),
            unanswered: BTreeSet::new(),
            left_over: None,
            deadline: limit.map(|limit| rt.sleep(limit)),
            full: FULL.min(config.max_message),
        }
    }

    /// Adds an answer that is known before the first reply is sent.
    pub(super) fn push_known(&mut self, item: Item) {
        let bytes = item.encoded_len();
        match self.known.back_mut() {
            Some(reply) if reply.items.is_empty() || self.known_bytes + bytes <= self.full => {
                reply.items.push(item);
                self.known_bytes += bytes;
            }
            _ => {
                self.known.push_back(FetchReply { items: vec![item], fingerprint: None });
                self.known_bytes = bytes;
            }
        }
    }

    /// Adds the answer for the key at `index`, when it comes.
    pub(super) fn push_pending(&mut self, index: u32, answer: Pending) {
        self.unanswered.insert(index);
        self.pending.push(answer);
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Option<FetchReply>> {
        if let Some(reply) = self.known.pop_front() {
            return Poll::Ready(Some(reply));
        }
        let items = self.take_ready(cx);
        if !items.is_empty() {
            return Poll::Ready(Some(FetchReply { items, fingerprint: None }));
        }
        if self.unanswered.is_empty() {
            return Poll::Ready(None);
        }
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        if deadline.poll_unpin(cx).is_pending() {
            return Poll::Pending;
        }
        self.pending.clear();
        let late = Failure::new(FailureKind::Deadline);
        let items =
            std::mem::take(&mut self.unanswered).into_iter().map(|index| Item::new(index, Err(&late)));
        Poll::Ready(Some(FetchReply { items: items.collect(), fingerprint: None }))
    }

    /// What became known since the reply before, up to a full reply.
    fn take_ready(&mut self, cx: &mut Context<'_>) -> Vec<Item> {
        let mut items = Vec::new();
        let mut bytes = 0;
        loop {
            let item = match self.left_over.take() {
                Some(item) => item,
                None => match self.pending.poll_next_unpin(cx) {
                    Poll::Ready(Some(item)) => item,
                    Poll::Ready(None) | Poll::Pending => return items,
                },
            };
            let size = item.encoded_len();
            if !items.is_empty() && bytes + size > self.full {
                self.left_over = Some(item);
                return items;
            }
            bytes += size;
            self.unanswered.remove(&item.index);
            items.push(item);
        }
    }
}

impl Stream for Answers {
    type Item = Result<FetchReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match catch_unwind(AssertUnwindSafe(|| self.poll_reply(cx))) {
            Ok(reply) => reply.map(|reply| reply.map(Ok)),
            Err(_) => {
                self.pending.clear();
                self.unanswered.clear();
                Poll::Ready(Some(Err(panicked())))
            }
        }
    }
}
