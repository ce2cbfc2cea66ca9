//! Look-ups, as callers make them: of one key, or of many at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select;
use groupcache_core::{
    Answer, Failure, FailureKind, HashedKey, Instant, Level, Load, LoadRequest, Refused, Route, Ticket,
};

use super::wait::{Gathering, Promise, Promised, Waiter, promise};
use super::{Engine, Fx};
use crate::meter::Timing;
use crate::rt::BoxFuture;
use crate::trace::{TraceContext, Traced};

impl Engine {
    /// What is known of a key right now, without waiting or loading.
    pub(crate) fn peek(&self, key: &HashedKey<'_>) -> Option<Answer> {
        self.read(self.shard_of(key)).get_with(key, || self.clock.now())
    }

    /// Counts a look-up of a key, where keys are counted at all.
    #[inline]
    fn note_key(&self, key: &HashedKey<'_>) {
        if let Some(keys) = &self.watch.hot_keys {
            keys.note(key, || self.clock.now());
        }
    }

    /// Looks a key up for a peer, without waiting or loading.
    pub(crate) fn serve(&self, key: &HashedKey<'_>) -> Option<Answer> {
        self.note_key(key);
        let shard = self.read(self.shard_of(key));
        shard.note_served(key.group());
        shard.get_with(key, || self.clock.now())
    }

    /// Looks a key up, and starts or joins its load where it is not there. To be awaited, for `limit` at most. Cancel-safe: dropped, it leaves no waiter
    /// behind.
    #[inline]
    pub(crate) fn look_up(
        self: &Arc<Self>,
        key: &HashedKey<'_>,
        limit: Duration,
        route: Route,
    ) -> LookUp<'_> {
        self.note_key(key);
        match self.peek(key) {
            Some(answer) => LookUp::Known(answer),
            None => self.load(key, limit, route, None),
        }
    }

    /// Like [`look_up`](Self::look_up) for who has looked already; `parent` is the trace that a peer asks in.
    pub(crate) fn load(
        self: &Arc<Self>,
        key: &HashedKey<'_>,
        limit: Duration,
        route: Route,
        parent: Option<&TraceContext>,
    ) -> LookUp<'_> {
        let (promise, promised) = promise();
        let now = self.clock.now();
        let timing = Timing::new(key.group(), route, now);
        let mut traced = self.traced(key, route, parent);
        let answer = match self.begin(key, promise, (now, limit), route, traced.as_deref_mut()) {
            Ok(Load::Ready { answer, .. }) => answer,
            Ok(Load::Wait(ticket)) => {
                return LookUp::Waits(Waiting {
                    engine: self,
                    ticket: Some(ticket),
                    promised,
                    timing,
                    traced,
                    // The flight itself ends at the load time-out: only who leaves earlier needs a timer.
                    timer: (limit < self.config.shard.load_timeout).then(|| self.rt.sleep(limit)),
                });
            }
            Err(refused) => Err(refused.error.into()),
        };
        self.answered(timing, traced.as_deref(), &answer);
        LookUp::Known(answer)
    }

    fn traced(
        &self,
        key: &HashedKey<'_>,
        route: Route,
        parent: Option<&TraceContext>,
    ) -> Option<Box<Traced>> {
        if !self.tracer.is_on() {
            return None;
        }
        let group = self.groups.by_id(key.group())?;
        match route {
            Route::Cluster => self.tracer.get(&group.name, key.as_bytes()),
            Route::LocalOnly => self.tracer.serve(&group.name, key.as_bytes(), parent),
        }
    }

    fn answered(&self, timing: Timing, traced: Option<&Traced>, answer: &Answer) {
        self.meter.answered(self, timing, answer);
        if let Some(traced) = traced {
            self.tracer.over(traced, outcome_of(answer));
        }
    }

    fn begin(
        self: &Arc<Self>,
        key: &HashedKey<'_>,
        promise: Promise,
        (now, limit): (Instant, Duration),
        route: Route,
        traced: Option<&mut Traced>,
    ) -> Result<Load<Waiter>, Refused<Waiter>> {
        let deadline = now.saturating_add(limit.min(self.config.shard.load_timeout));
        let request = LoadRequest::new(*key, Waiter::Answer(promise), deadline).route(route);
        let mut fx = Fx::new();
        let load = self.with_shard(self.shard_of(key), |shard| shard.load(now, request, &mut fx));
        if let Some(traced) = traced {
            self.tracer.note_started(traced, &fx);
        }
        self.carry_out(&mut fx);
        if let Err(refused) = &load {
            self.note_refused(key, &refused.error);
        }
        load
    }

    /// Looks many keys up at once, and waits for the loads of those that are not there: for `limit` at most, after which the answers that are not there
    /// are failures. One answer for each key, in the order of `keys`. Each shard is locked once or twice, and what is asked of a peer leaves together.
    /// Cancel-safe as [`look_up`](Self::look_up).
    pub(crate) async fn look_up_many(
        self: &Arc<Self>,
        keys: &[HashedKey<'_>],
        limit: Duration,
    ) -> Vec<Answer> {
        keys.iter().for_each(|key| self.note_key(key));
        let mut by_shard: Vec<u32> = (0..keys.len() as u32).collect();
        by_shard.sort_unstable_by_key(|&index| self.shard_of(&keys[index as usize]));
        let answers = self.peek_many(keys, &by_shard);
        by_shard.retain(|&index| answers[index as usize].is_none());
        let gathering = Gathering::new(answers);
        if by_shard.is_empty() {
            return gathering.take();
        }
        let now = self.clock.now();
        let waiting = self.begin_many(keys, &by_shard, &gathering, (now, limit));
        if limit >= self.config.shard.load_timeout {
            (&gathering).await;
        } else {
            select(&gathering, self.rt.sleep(limit)).await;
        }
        // Takes back what is still open, before that is answered in its place.
        drop(waiting);
        self.meter.answered_many(self, keys.first().map(HashedKey::group), now);
        gathering.take()
    }

    /// What is known of keys, which `by_shard` lists shard by shard.
    fn peek_many(&self, keys: &[HashedKey<'_>], by_shard: &[u32]) -> Vec<Option<Answer>> {
        let mut answers = vec![None; keys.len()];
        let now = self.clock.now();
        for run in self.runs(keys, by_shard) {
            let shard = self.read(self.shard_of(&keys[run[0] as usize]));
            for &index in run {
                answers[index as usize] = shard.get(now, &keys[index as usize]);
            }
        }
        answers
    }

    fn begin_many(
        self: &Arc<Self>,
        keys: &[HashedKey<'_>],
        by_shard: &[u32],
        gathering: &Gathering,
        (now, limit): (Instant, Duration),
    ) -> WaitingForMany<'_> {
        let deadline = now.saturating_add(limit.min(self.config.shard.load_timeout));
        let mut tickets = Vec::with_capacity(by_shard.len());
        let mut at_once = Vec::new();
        let mut refusal = None;
        let mut fx = Fx::new();
        for run in self.runs(keys, by_shard) {
            self.with_shard(self.shard_of(&keys[run[0] as usize]), |shard| {
                for &index in run {
                    let waiter = Waiter::OneOf(gathering.promise(index));
                    let request = LoadRequest::new(keys[index as usize], waiter, deadline);
                    match shard.load(now, request, &mut fx) {
                        Ok(Load::Wait(ticket)) => tickets.push((index, ticket)),
                        Ok(Load::Ready { answer, waiter }) => at_once.push((waiter, answer)),
                        Err(refused) => {
                            refusal = Some((index, refused.error));
                            at_once.push((refused.waiter, Err(refused.error.into())));
                        }
                    }
                }
            });
        }
        if let Some((index, error)) = refusal {
            self.note_refused(&keys[index as usize], &error);
        }
        at_once.into_iter().for_each(|(waiter, answer)| waiter.answer(answer));
        let mut traced = self.traced_many(keys, by_shard.len());
        if let Some(traced) = &mut traced {
            self.tracer.note_started(traced, &fx);
        }
        self.carry_out(&mut fx);
        WaitingForMany { engine: self, gathering: gathering.clone(), tickets, traced }
    }

    fn traced_many(&self, keys: &[HashedKey<'_>], missing: usize) -> Option<Traced> {
        let first = keys.first().filter(|_| self.tracer.is_on())?;
        self.tracer.get_many(&self.groups.by_id(first.group())?.name, missing)
    }

    /// `by_shard`, cut where another shard begins.
    fn runs<'a>(&self, keys: &[HashedKey<'_>], by_shard: &'a [u32]) -> impl Iterator<Item = &'a [u32]> {
        let shard = |index: u32| self.shard_of(&keys[index as usize]);
        by_shard.chunk_by(move |&a, &b| shard(a) == shard(b))
    }

    /// Takes a waiter back. Who leaves at its limit, and takes what there is, has this for its answer.
    fn take_back(self: &Arc<Self>, ticket: Ticket) {
        let now = self.clock.now();
        let mut fx = Fx::new();
        let waiter = self.with_shard(ticket.shard(), |shard| shard.cancel(now, ticket, &mut fx));
        if let Some(waiter) = waiter {
            waiter.answer(Err(Failure::new(FailureKind::Deadline)));
        }
        self.carry_out(&mut fx);
    }
}

/// What has come of a look-up.
#[allow(clippy::large_enum_variant)] // It is taken apart where it is made.
pub(crate) enum LookUp<'a> {
    Known(Answer),
    Waits(Waiting<'a>),
}

impl LookUp<'_> {
    /// Its answer, when it is there.
    pub(crate) async fn answer(self) -> Answer {
        match self {
            Self::Known(answer) => answer,
            Self::Waits(waiting) => waiting.await,
        }
    }
}

/// A caller that waits. Small: a stampede is many of these. Dropped before it was served, it takes its waiter back.
pub(crate) struct Waiting<'a> {
    engine: &'a Arc<Engine>,
    ticket: Option<Ticket>,
    promised: Promised,
    timing: Timing,
    traced: Option<Box<Traced>>,
    timer: Option<BoxFuture<'static, ()>>,
}

impl Future for Waiting<'_> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let answer = match self.promised.poll_unpin(context) {
            Poll::Ready(answer) => {
                self.ticket = None;
                answer
            }
            Poll::Pending => match self.timer.as_mut().map(|timer| timer.poll_unpin(context)) {
                Some(Poll::Ready(())) => Err(Failure::new(FailureKind::Deadline)),
                Some(Poll::Pending) | None => return Poll::Pending,
            },
        };
        self.engine.answered(self.timing, self.traced.take().as_deref(), &answer);
        Poll::Ready(answer)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.engine.take_back(ticket);
        }
        if let Some(traced) = self.traced.take() {
            self.engine.tracer.over(&traced, "left");
        }
    }
}

/// A caller that waits for several answers. Dropped, it takes back the waiters of those that are still to come.
struct WaitingForMany<'a> {
    engine: &'a Arc<Engine>,
    gathering: Gathering,
    tickets: Vec<(u32, Ticket)>,
    traced: Option<Traced>,
}

impl Drop for WaitingForMany<'_> {
    fn drop(&mut self) {
        for (index, ticket) in self.tickets.drain(..) {
            if self.gathering.is_open(index) {
                self.engine.take_back(ticket);
            }
        }
        if let Some(traced) = &self.traced {
            self.engine.tracer.over(traced, "over");
        }
    }
}

/// How a look-up ended, in a word for logs.
fn outcome_of(answer: &Answer) -> &'static str {
    match answer {
        Ok(fetched) => match fetched.level {
            Level::Main => "main",
            Level::Hot => "hot",
            Level::Peer => "peer",
            Level::Origin => "load",
        },
        Err(failure) => failure.kind.name(),
    }
}
