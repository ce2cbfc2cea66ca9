//! What goes wrong, when, and for how long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::member::Fleet;
use crate::Signal;

/// How many things may be wrong at once: a fleet of five still has a majority in order.
const AT_ONCE: usize = 2;
/// Between the end of a turn's look and the next fault, at most.
const LULL: u64 = 700;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Kill,
    Terminate,
    Freeze,
    CutPeers,
    FreezePeers,
    RefusePeers,
    DelayPeers,
    CutRegistry,
    FreezeRegistry,
    RefuseRegistry,
    KillEtcd,
    FreezeEtcd,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Kill,
        Self::Terminate,
        Self::Freeze,
        Self::CutPeers,
        Self::FreezePeers,
        Self::RefusePeers,
        Self::DelayPeers,
        Self::CutRegistry,
        Self::FreezeRegistry,
        Self::RefuseRegistry,
        Self::KillEtcd,
        Self::FreezeEtcd,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 of a node",
            Self::Terminate => "orderly stop of a node",
            Self::Freeze => "SIGSTOP of a node",
            Self::CutPeers => "connections of peers cut",
            Self::FreezePeers => "peers' way to a node frozen",
            Self::RefusePeers => "peers' way to a node closed",
            Self::DelayPeers => "peers' way to a node slow",
            Self::CutRegistry => "connections to etcd cut",
            Self::FreezeRegistry => "a node's way to etcd frozen",
            Self::RefuseRegistry => "a node's way to etcd closed",
            Self::KillEtcd => "kill -9 of etcd",
            Self::FreezeEtcd => "SIGSTOP of etcd",
        }
    }

    /// Whether somebody may learn late who is a member.
    const fn is_of_discovery(self) -> bool {
        matches!(
            self,
            Self::CutRegistry
                | Self::FreezeRegistry
                | Self::RefuseRegistry
                | Self::KillEtcd
                | Self::FreezeEtcd
                | Self::Freeze
        )
    }

    /// How long it lasts: in milliseconds, from and to.
    ///
    /// No running node loses its lease (5 s, kept alive every other second) over one: who is off the ring is told of no removal, and what it then
    /// holds is older than one that everybody else has acknowledged.
    const fn lasts(self) -> (u64, u64) {
        match self {
            Self::CutPeers | Self::CutRegistry => (0, 1),
            Self::DelayPeers => (500, 4_000),
            Self::Kill | Self::Terminate => (200, 3_000),
            Self::FreezePeers | Self::RefusePeers => (300, 9_000),
            Self::Freeze
            | Self::FreezeRegistry
            | Self::RefuseRegistry
            | Self::KillEtcd
            | Self::FreezeEtcd => (300, 2_000),
        }
    }
}

#[derive(Debug)]
struct Fault {
    kind: Kind,
    /// The node it is about; any, for etcd's.
    at: usize,
    ends: Instant,
}

/// Draws faults, and ends them.
#[derive(Debug)]
pub(super) struct Faults {
    random: u64,
    active: Vec<Fault>,
    next: Instant,
    injected: BTreeMap<Kind, u64>,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: seed, active: Vec::new(), next: Instant::now(), injected: BTreeMap::new() }
    }

    /// Ends what has lasted long enough, and begins something new from time to time.
    pub(super) fn turn(&mut self, fleet: &mut Fleet, told: &mut impl FnMut(&str)) {
        let now = Instant::now();
        let (over, active) =
            std::mem::take(&mut self.active).into_iter().partition(|fault| fault.ends <= now);
        self.active = active;
        for fault in over {
            end(&fault, fleet);
        }
        if now < self.next || self.active.len() >= AT_ONCE {
            return;
        }
        self.next = now + Duration::from_millis(draw(&mut self.random) % LULL);
        let kind = Kind::ALL[draw(&mut self.random) as usize % Kind::ALL.len()];
        let at = draw(&mut self.random) as usize % fleet.len();
        let (from, to) = kind.lasts();
        let lasts = Duration::from_millis(from + draw(&mut self.random) % (to - from));
        // Members that come while another hears of nobody would be unknown to that one's removals.
        let clashes =
            |fault: &Fault| fault.at == at || kind.is_of_discovery() || fault.kind.is_of_discovery();
        if self.active.iter().any(clashes) {
            return;
        }
        told(&format!("{} ({at}) for {lasts:?}", kind.name()));
        *self.injected.entry(kind).or_default() += 1;
        begin(kind, at, fleet);
        self.active.push(Fault { kind, at, ends: now + lasts });
    }

    pub(super) fn end_all(&mut self, fleet: &mut Fleet) {
        for fault in self.active.drain(..) {
            end(&fault, fleet);
        }
    }

    /// How many of each kind there were.
    pub(super) fn injected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.injected.iter().map(|(kind, count)| (kind.name(), *count))
    }

    pub(super) fn count(&self) -> u64 {
        self.injected.values().sum()
    }
}

fn begin(kind: Kind, at: usize, fleet: &mut Fleet) {
    let delay = Duration::from_millis(30);
    match kind {
        Kind::Kill => fleet.member(at).kill(),
        Kind::Terminate => fleet.member(at).terminate(),
        Kind::Freeze => fleet.member(at).freeze(),
        Kind::CutPeers => fleet.member(at).peers.cut(),
        Kind::FreezePeers => fleet.member(at).peers.freeze(),
        Kind::RefusePeers => fleet.member(at).peers.refuse(),
        Kind::DelayPeers => fleet.member(at).peers.delay(delay),
        Kind::CutRegistry => fleet.member(at).registry.cut(),
        Kind::FreezeRegistry => fleet.member(at).registry.freeze(),
        Kind::RefuseRegistry => fleet.member(at).registry.refuse(),
        Kind::KillEtcd => fleet.etcd.kill(),
        Kind::FreezeEtcd => fleet.etcd.signal(Signal::Stop),
    }
}

fn end(fault: &Fault, fleet: &mut Fleet) {
    match fault.kind {
        Kind::Kill | Kind::Terminate => fleet.member(fault.at).launch(),
        Kind::Freeze => fleet.member(fault.at).thaw(),
        Kind::CutPeers | Kind::FreezePeers | Kind::RefusePeers | Kind::DelayPeers => {
            fleet.member(fault.at).peers.heal();
        }
        Kind::CutRegistry | Kind::FreezeRegistry | Kind::RefuseRegistry => {
            fleet.member(fault.at).registry.heal();
        }
        Kind::KillEtcd => fleet.etcd.restart(),
        Kind::FreezeEtcd => fleet.etcd.signal(Signal::Continue),
    }
}

/// The next number of a splitmix64.
pub(super) const fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
