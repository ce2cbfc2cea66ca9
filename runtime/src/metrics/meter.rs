//! What is measured as it happens: how long things take. Hits are not: a hit reads no clock.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use ::metrics::{Histogram, Key, Label, Level as Importance, Metadata, Recorder};
use groupcache_core::{Answer, FailureKind, GroupId, Instant, Level, Outcome, Route};

use super::table::{
    GET_MANY_SECONDS, GET_SECONDS, LOAD_SECONDS, Metric, PEER_BATCH_KEYS, PEER_FETCH_SECONDS, SERVED_SECONDS,
};
use crate::engine::Engine;
use crate::groups::GroupEntry;
use crate::peers::Peer;

/// Where a node's metrics go: to a recorder of its own, or to the process's.
#[derive(Clone, Default)]
pub(crate) struct Target(pub(crate) Option<Arc<dyn Recorder + Send + Sync>>);

impl Target {
    pub(super) fn with<T>(&self, record: impl FnOnce(&dyn Recorder) -> T) -> T {
        match &self.0 {
            Some(own) => record(&**own),
            None => ::metrics::with_recorder(record),
        }
    }

    fn histogram(&self, metric: &Metric, labels: &[&str]) -> Histogram {
        self.with(|recorder| recorder.register_histogram(&key(metric, labels), &METADATA))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Target(own)" } else { "Target(global)" })
    }
}

pub(super) const METADATA: Metadata<'static> =
    Metadata::new("groupcache", Importance::INFO, Some(module_path!()));

/// A series of `metric`: its labels' values in the order of the table.
pub(super) fn key(metric: &Metric, labels: &[&str]) -> Key {
    debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
    let labels = metric.labels.iter().zip(labels).map(|(&name, &value)| Label::new(name, value.to_owned()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

/// Whether anything is measured: from when somebody has shown interest.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(super) target: Target,
    is_on: AtomicBool,
    is_described: AtomicBool,
}

/// What a caller that waits remembers, to be measured when it is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    group: GroupId,
    is_served: bool,
    since: Instant,
}

impl Timing {
    pub(crate) fn new(group: GroupId, route: Route, since: Instant) -> Self {
        Self { group, is_served: route == Route::LocalOnly, since }
    }
}

impl Meter {
    /// Measures from the start on where the node has a recorder of its own; else from the first publication on.
    pub(crate) fn new(target: Target) -> Self {
        Self { is_on: AtomicBool::new(target.0.is_some()), target, is_described: AtomicBool::new(false) }
    }

    /// Somebody publishes: from now on it is worth measuring. Answers whether it is the first time.
    pub(super) fn turn_on(&self) -> bool {
        self.is_on.store(true, Ordering::Relaxed);
        !self.is_described.swap(true, Ordering::Relaxed)
    }

    fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// A look-up that was no plain hit has its answer.
    pub(crate) fn answered(&self, engine: &Engine, timing: Timing, answer: &Answer) {
        if !self.is_on() {
            return;
        }
        // A group that was destroyed meanwhile is measured no more.
        let Some(group) = engine.groups.by_id(timing.group) else { return };
        let now = engine.clock.now();
        let handles = group.meter.handles();
        let outcomes = if timing.is_served { &handles.served } else { &handles.get };
        outcomes.record(self, &group.name, How::of(answer, now), seconds(timing.since, now));
    }

    /// Look-ups of many keys, not all of which were there, have their answers.
    pub(crate) fn answered_many(&self, engine: &Engine, group: Option<GroupId>, since: Instant) {
        let group = group.filter(|_| self.is_on()).and_then(|group| engine.groups.by_id(group));
        let Some(group) = group else { return };
        let handles = group.meter.handles();
        let histogram = once(&handles.get_many, || self.target.histogram(GET_MANY_SECONDS, &[&group.name]));
        histogram.record(seconds(since, engine.clock.now()));
    }

    /// The origin has answered.
    pub(crate) fn loaded(&self, engine: &Engine, group: &GroupEntry, since: Instant, outcome: &Outcome) {
        if !self.is_on() {
            return;
        }
        let took = seconds(since, engine.clock.now());
        let how = match outcome {
            Outcome::Value { .. } => How::Value,
            Outcome::Failed(failure) => How::Failed(failure.kind),
            Outcome::Unreachable(_) => How::Failed(FailureKind::OriginFailed),
        };
        group.meter.handles().load.record(self, &group.name, how, took);
    }

    /// A batch leaves.
    pub(crate) fn batch_sent(&self, peer: &Peer, keys: usize) {
        if self.is_on() {
            let handles = peer.meter.handles(&peer.name, &self.target);
            handles.batch_keys.record(keys as f64);
        }
    }

    /// A peer has answered keys of a batch that was sent at `since`, or has failed to.
    pub(crate) fn fetched(
        &self,
        engine: &Engine,
        peer: &Peer,
        since: Instant,
        keys: usize,
        is_answered: bool,
    ) {
        if !self.is_on() || keys == 0 {
            return;
        }
        let handles = peer.meter.handles(&peer.name, &self.target);
        let histogram = if is_answered { &handles.answered } else { &handles.failed };
        histogram.record_many(seconds(since, engine.clock.now()), keys);
    }
}

fn seconds(since: Instant, now: Instant) -> f64 {
    now.saturating_since(since).as_secs_f64()
}

/// How something ended: the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It was there after all: loaded since it was looked for first.
    Hit,
    /// With an expired value.
    Stale,
    /// With a peer's value.
    Peer,
    /// With a value of this node's origin.
    Load,
    /// The origin had one.
    Value,
    Failed(FailureKind),
}

impl How {
    const SUCCESSES: [Self; 5] = [Self::Hit, Self::Stale, Self::Peer, Self::Load, Self::Value];
    const COUNT: usize = Self::SUCCESSES.len() + FailureKind::ALL.len();

    fn of(answer: &Answer, now: Instant) -> Self {
        match answer {
            Err(failure) => Self::Failed(failure.kind),
            Ok(fetched) => match fetched.level {
                Level::Peer => Self::Peer,
                Level::Origin => Self::Load,
                Level::Main | Level::Hot if fetched.expires <= now => Self::Stale,
                Level::Main | Level::Hot => Self::Hit,
            },
        }
    }

    fn index(self) -> usize {
        let successes = Self::SUCCESSES.len();
        let of_failure = |kind| FailureKind::ALL.iter().position(|&it| it == kind).map(|at| successes + at);
        let at = match self {
            Self::Failed(kind) => of_failure(kind),
            success => Self::SUCCESSES.iter().position(|&it| it == success),
        };
        at.unwrap_or(0)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Peer => "peer",
            Self::Load => "load",
            Self::Value => "value",
            Self::Failed(kind) => kind.name(),
        }
    }
}

/// The histograms of one group, and what it has told of removals.
#[derive(Default)]
pub(crate) struct GroupMeter {
    handles: Slot<GroupHandles>,
    pub(super) acknowledged: AtomicU64,
    pub(super) unacknowledged: AtomicU64,
    pub(super) members: AtomicU64,
}

impl GroupMeter {
    /// A removal that began here is over; so many members did not acknowledge.
    pub(crate) fn removed(&self, unacknowledged: usize) {
        let count = if unacknowledged == 0 { &self.acknowledged } else { &self.unacknowledged };
        count.fetch_add(1, Ordering::Relaxed);
        self.members.fetch_add(unacknowledged as u64, Ordering::Relaxed);
    }

    /// Forgets the handles. They are taken anew as they are needed, from whatever recorder there is then.
    pub(super) fn renew(&self) {
        self.handles.clear();
    }

    fn handles(&self) -> Arc<GroupHandles> {
        self.handles.get_or_make(GroupHandles::default)
    }
}

struct GroupHandles {
    get: Outcomes,
    served: Outcomes,
    load: Outcomes,
    get_many: OnceLock<Histogram>,
}

impl Default for GroupHandles {
    fn default() -> Self {
        let [get, served, load] = [GET_SECONDS, SERVED_SECONDS, LOAD_SECONDS].map(Outcomes::of);
        Self { get, served, load, get_many: OnceLock::new() }
    }
}

/// The series of one metric of a group, by outcome. Those that never happen are not registered.
struct Outcomes {
    metric: &'static Metric,
    series: [OnceLock<Histogram>; How::COUNT],
}

impl Outcomes {
    fn of(metric: &'static Metric) -> Self {
        Self { metric, series: [const { OnceLock::new() }; How::COUNT] }
    }

    fn record(&self, meter: &Meter, group: &str, how: How, seconds: f64) {
        let register = || meter.target.histogram(self.metric, &[group, how.name()]);
        once(&self.series[how.index()], register).record(seconds);
    }
}

/// What is in `cell`; made now where nothing is, under no lock: a recorder is foreign code.
fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    if let Some(known) = cell.get() {
        return known;
    }
    let made = make();
    cell.get_or_init(|| made)
}

/// The histograms of one peer. They go with the peer.
#[derive(Default)]
pub(crate) struct PeerMeter(Slot<PeerHandles>);

impl PeerMeter {
    /// As [`GroupMeter::renew`].
    pub(super) fn renew(&self) {
        self.0.clear();
    }

    fn handles(&self, peer: &str, target: &Target) -> Arc<PeerHandles> {
        self.0.get_or_make(|| PeerHandles {
            batch_keys: target.histogram(PEER_BATCH_KEYS, &[peer]),
            answered: target.histogram(PEER_FETCH_SECONDS, &[peer, "answered"]),
            failed: target.histogram(PEER_FETCH_SECONDS, &[peer, "failed"]),
        })
    }
}

impl fmt::Debug for PeerMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerMeter")
    }
}

struct PeerHandles {
    batch_keys: Histogram,
    answered: Histogram,
    failed: Histogram,
}

/// Handles that are kept until they are to be renewed.
struct Slot<T>(RwLock<Option<Arc<T>>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<T> Slot<T> {
    fn get_or_make(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        known.unwrap_or_else(|| {
            // Of two that make one at the same time, both are of the same series.
            let made = Arc::new(make());
            let before = self.0.write().unwrap_or_else(PoisonError::into_inner).replace(Arc::clone(&made));
            drop(before);
            made
        })
    }

    fn clear(&self) {
        let before = self.0.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(before);
    }
}
