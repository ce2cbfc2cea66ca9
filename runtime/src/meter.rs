//! What is measured as it happens, without the feature `metrics`: nothing. The calls are the ones of `metrics/meter.rs`, and come to no code.

use groupcache_core::{Answer, GroupId, Instant, Outcome, Route};

use crate::engine::Engine;
use crate::groups::GroupEntry;
use crate::peers::Peer;

#[derive(Clone, Debug, Default)]
pub(crate) struct Target;

#[derive(Debug)]
pub(crate) struct Meter;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing;

#[derive(Debug, Default)]
pub(crate) struct GroupMeter;

#[derive(Debug, Default)]
pub(crate) struct PeerMeter;

impl Timing {
    pub(crate) const fn new(_: GroupId, _: Route, _: Instant) -> Self {
        Self
    }
}

#[allow(clippy::unused_self)]
impl Meter {
    pub(crate) const fn new(_: Target) -> Self {
        Self
    }

    pub(crate) const fn answered(&self, _: &Engine, _: Timing, _: &Answer) {}

    pub(crate) const fn answered_many(&self, _: &Engine, _: Option<GroupId>, _: Instant) {}

    pub(crate) const fn loaded(&self, _: &Engine, _: &GroupEntry, _: Instant, _: &Outcome) {}

    pub(crate) const fn batch_sent(&self, peer: &Peer, _: usize) {
        let _none: &PeerMeter = &peer.meter;
    }

    pub(crate) const fn fetched(&self, _: &Engine, _: &Peer, _: Instant, _: usize, _: bool) {}
}

#[allow(clippy::unused_self)]
impl GroupMeter {
    pub(crate) const fn removed(&self, _: usize) {}
}
