//! Why a look-up of a key does what it does, at this node.

use groupcache_core::{FlightView, HashedKey, Instant, Share};
use serde::Serialize;

use super::outcomes::{Settled, VALUE};
use super::{ErrorReport, FlightReport, PeerReport, millis};
use crate::engine::{Engine, ME};
use crate::groups::GroupEntry;

/// How many members are named after a key's owner.
const SUCCESSORS: usize = 3;

/// What a node knows of a key: whose it is, whether it is kept here, what is going on with it, and what was. Asking counts as no look-up, and loads nothing.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The group.
    pub group: String,
    /// The key.
    pub key: String,
    /// The node that says all this.
    pub node: String,
    /// How keys are placed.
    pub placement: &'static str,
    /// A digest of the ring, equal on nodes that agree on every owner.
    pub fingerprint: String,
    /// The key's owner; `None` while this node knows of no member, and then it loads every key itself.
    pub owner: Option<String>,
    /// Whether that is this node.
    pub owned_here: bool,
    /// Who is asked after the owner, when that gives no answer, in this order.
    pub successors: Vec<String>,
    /// How this node stands with the owner; `None` where it is the owner.
    pub owner_link: Option<PeerReport>,
    /// What is kept of the key here.
    pub kept: Option<KeptReport>,
    /// The key's load in progress here.
    pub flight: Option<FlightReport>,
    /// What the key's last load or fetch from here came to, as far as it is remembered: the last 1,024 of all keys are.
    pub last: Option<OutcomeReport>,
    /// The key's errors among the node's last ones, newest first.
    pub errors: Vec<ErrorReport>,
}

/// What is kept of a key.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct KeptReport {
    /// `main` as its owner, `hot` as a copy of what another node owns, `negative` where the key is known not to exist.
    pub share: &'static str,
    /// The bytes of the value.
    pub bytes: usize,
    /// What that is charged to the budget, in bytes.
    pub charge: u32,
    /// How long it is given out yet, in milliseconds; `None` where it does not expire. 0 where it has: then it makes place as that is needed, and is given
    /// out only as the group's settings for stale values allow.
    pub ttl_ms: Option<u64>,
    /// How long ago it expired, in milliseconds.
    pub expired_ms: Option<u64>,
    /// How long it has been here, in milliseconds; `None` where that is not known: an entry does not keep the time when it came, and the node
    /// remembers its last loads only.
    pub age_ms: Option<u64>,
    /// How long it has been here at the most, where its kind of entry has a longest life.
    pub age_at_most_ms: Option<u64>,
}

/// What a load or a fetch came to.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OutcomeReport {
    /// `value`, a kind of failure by name, or `unreachable`.
    pub what: &'static str,
    /// The peer that was asked; `None` where it was this node's origin.
    pub peer: Option<String>,
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

impl Engine {
    pub(crate) fn explain(&self, group: &GroupEntry, text: &str) -> Explanation {
        let key = self.hashed(group.id, text.as_bytes());
        let ring = self.ring();
        let mut line = ring.successors(key.as_bytes());
        let owner = line.next();
        let owned_here = owner.is_none_or(|owner| owner.id() == ME);
        let owner_link = owner.filter(|_| !owned_here).and_then(|owner| self.peers.get(owner.id()));
        let last = self.watch.outcomes.latest(&key);
        let errors = self.watch.errors.all().into_iter().filter(|it| it.is_of(&group.name, key.as_bytes()));
        Explanation {
            group: group.name.to_string(),
            key: text.to_owned(),
            node: self.my_name().to_string(),
            placement: ring.placement().name(),
            fingerprint: format!("{:016x}", ring.fingerprint()),
            owner: owner.map(|owner| owner.name().to_owned()),
            owned_here,
            successors: line.take(SUCCESSORS).map(|member| member.name().to_owned()).collect(),
            owner_link: owner_link.map(|peer| self.peer_report(&peer)),
            kept: self.kept_report(&key, last.as_ref()),
            flight: self.flight_of(&key),
            last: last.map(|last| self.outcome_report(&last)),
            errors: errors.map(|error| self.report_of(error)).collect(),
        }
    }

    fn kept_report(&self, key: &HashedKey<'_>, last: Option<&Settled>) -> Option<KeptReport> {
        let kept = self.read(self.shard_of(key)).kept(key)?;
        let now = self.clock.now();
        let left = kept.expires.saturating_since(now);
        let longest = kept.longest.filter(|_| kept.expires > now);
        // What was kept last is what came last.
        let came = last.filter(|last| (last.what == VALUE) == (kept.share != Share::Negative));
        Some(KeptReport {
            share: kept.share.name(),
            bytes: kept.len,
            charge: kept.charge,
            ttl_ms: (kept.expires != Instant::MAX).then(|| millis(left)),
            expired_ms: (kept.expires <= now).then(|| millis(now.saturating_since(kept.expires))),
            age_ms: came.map(|came| millis(now.saturating_since(came.at))),
            age_at_most_ms: longest.map(|it| millis(it.saturating_sub(left))),
        })
    }

    fn flight_of(&self, key: &HashedKey<'_>) -> Option<FlightReport> {
        let is_of = |it: &FlightView| it.key.group() == key.group() && it.key.as_bytes() == key.as_bytes();
        // One that was fenced serves who waited before the removal: another may be on its way.
        let flight = {
            let shard = self.read(self.shard_of(key));
            shard.flights().filter(is_of).min_by_key(|flight| flight.fenced)
        };
        flight.map(|flight| self.flight_report(&flight))
    }

    fn outcome_report(&self, last: &Settled) -> OutcomeReport {
        OutcomeReport {
            what: last.what,
            peer: self.name_of(last.peer),
            ago_ms: millis(self.clock.now().saturating_since(last.at)),
            took_ms: last.took.as_secs_f64() * 1e3,
        }
    }
}
