//! Removals and flushes under any sequence of answers, against a model of who was told and who has said what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use groupcache_core::{
    Call, Disposition, Effects, GroupId, HashedKey, Instant, Intent, Invalidation, Key, PeerId, RemovalId,
    RemovalRequest, Removals, Wake,
};

/// The owner is told first and everybody else behind it, of a flush everybody twice; a removal ends once, when all have answered or its time is up, and
/// names exactly those who have not said yes; late and double answers change nothing; wakes come in time and never for nothing.
pub fn removal(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    if let Ok(mut bench) = Bench::new(&mut bytes) {
        while !bytes.is_empty() && bench.step(&mut bytes).is_ok() {}
        bench.finish();
    }
}

struct Bench {
    removals: Removals<u32>,
    out: Effects<u32>,
    max: usize,
    now: Instant,
    next: u32,
    under_way: BTreeMap<u32, Removal>,
    /// Who was told in rounds that are over.
    past: Vec<(RemovalId, PeerId)>,
}

/// A removal under way.
struct Removal {
    is_flush: bool,
    /// Who is told in this round, and under which id; without those who have answered.
    id: Option<RemovalId>,
    pending: BTreeSet<PeerId>,
    /// Whom the last round tells, while it is still to come.
    later: Option<BTreeSet<PeerId>>,
    /// Who did not say yes.
    unacknowledged: BTreeSet<PeerId>,
    round_end: Instant,
    deadline: Instant,
}

/// What must come of a call.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    told: BTreeSet<(u32, PeerId)>,
    /// Who is forgotten here.
    here: Vec<u32>,
    over: Vec<(u32, Vec<PeerId>)>,
}

impl Bench {
    fn new(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let max = bytes.int_in_range(1..=3)?;
        let now = Instant::from_nanos(*bytes.choose(&[0, 1 << 40, u64::MAX - (1 << 33)])?);
        Ok(Self {
            removals: Removals::new(max, now),
            out: Effects::new(),
            max: max as usize,
            now,
            next: 0,
            under_way: BTreeMap::new(),
            past: Vec::new(),
        })
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        match bytes.int_in_range(0..=15)? {
            0..=3 => self.start(bytes)?,
            4..=11 => self.answer(bytes)?,
            12..=14 => {
                let millis = *bytes.choose(&[0, 1, 49, 51, 1_000, 60_000])?;
                self.now = self.now.saturating_add(Duration::from_millis(millis));
                self.time_out();
            }
            // A step back in time, seen by a call that changes nothing else.
            _ => {
                let earlier = self.now.saturating_sub(Duration::from_secs(1));
                if self.removals.next_wake() != Wake::Now {
                    let _wake = self.removals.handle_timeout(earlier, &mut self.out);
                    self.check(Expected::default());
                }
            }
        }
        let wake = self.removals.next_wake();
        let due = self.under_way.values().map(|removal| removal.round_end).min();
        match wake {
            Wake::Now => assert!(due.is_some_and(|at| at <= self.now), "a wake for nothing"),
            Wake::At(at) => assert!(at > self.now && due == Some(at)),
            Wake::Idle => assert_eq!(due, None),
        }
        assert_eq!(self.removals.live(), self.under_way.len());
        Ok(())
    }

    fn start(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        self.next += 1;
        let peers = |bits: u8| (0..6).filter(move |peer| bits >> peer & 1 == 1).map(PeerId::new);
        let members: BTreeSet<PeerId> = peers(bytes.arbitrary()?).collect();
        let is_flush = bytes.ratio(1, 3)?;
        let owner = Some(PeerId::new(bytes.int_in_range(0..=7)?)).filter(|owner| owner.index() < 6);
        let owner = owner.filter(|_| !is_flush);
        let deadline =
            self.now.saturating_add(Duration::from_millis(*bytes.choose(&[0, 1, 100, 2_000, u64::MAX])?));
        let request = RemovalRequest::new(
            what(is_flush, self.next),
            self.next,
            Vec::from_iter(members.clone()),
            deadline,
        );
        let refused = self.removals.start(self.now, request.owner(owner), &mut self.out).is_err();
        assert_eq!(refused, self.under_way.len() == self.max);
        let mut expected = Expected::default();
        if !refused {
            let first: BTreeSet<PeerId> =
                if is_flush { members.clone() } else { owner.into_iter().collect() };
            let later = members.into_iter().filter(|&member| Some(member) != owner).collect();
            let half = self.now.saturating_add(deadline.saturating_since(self.now) / 2);
            let removal = Removal {
                is_flush,
                id: None,
                pending: first,
                later: Some(later),
                unacknowledged: BTreeSet::new(),
                round_end: half,
                deadline,
            };
            if is_flush && !removal.pending.is_empty() {
                expected.here.push(self.next);
            }
            expected.told.extend(removal.pending.iter().map(|&peer| (self.next, peer)));
            self.under_way.insert(self.next, removal);
            self.go_on(self.next, &mut expected);
        }
        self.check(expected);
        Ok(())
    }

    /// Turns to the next round of a removal whose round is over, and ends one that has none left.
    fn go_on(&mut self, waiter: u32, expected: &mut Expected) {
        while self.under_way.get(&waiter).is_some_and(|removal| removal.pending.is_empty()) {
            let removal = self.under_way.get_mut(&waiter).expect("just looked up");
            removal.id = None;
            if let Some(later) = removal.later.take() {
                expected.here.push(waiter);
                expected.told.extend(later.iter().map(|&peer| (waiter, peer)));
                (removal.pending, removal.round_end) = (later, removal.deadline);
                continue;
            }
            let removal = self.under_way.remove(&waiter).expect("just looked up");
            expected.over.push((waiter, Vec::from_iter(removal.unacknowledged)));
        }
    }

    /// An answer of who was told in this round, in one that is over, or not at all; some of them twice.
    fn answer(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let acknowledged = bytes.ratio(3, 4)?;
        let (id, peer) = if bytes.ratio(1, 5)? && !self.past.is_empty() {
            *bytes.choose(&self.past)?
        } else {
            let ids: Vec<RemovalId> = self.under_way.values().filter_map(|removal| removal.id).collect();
            if ids.is_empty() {
                return Ok(());
            }
            (*bytes.choose(&ids)?, PeerId::new(bytes.int_in_range(0..=5)?))
        };
        let counts = self
            .under_way
            .iter_mut()
            .find(|(_, removal)| removal.id == Some(id) && removal.pending.contains(&peer))
            .map(|(&waiter, removal)| {
                removal.pending.remove(&peer);
                if !acknowledged {
                    removal.unacknowledged.insert(peer);
                }
                self.past.push((id, peer));
                waiter
            });
        let disposition = self.removals.handle_invalidated(self.now, id, peer, acknowledged, &mut self.out);
        assert_eq!(disposition == Disposition::Applied, counts.is_some(), "{peer:?} of {id:?}");
        let mut expected = Expected::default();
        if let Some(waiter) = counts {
            self.go_on(waiter, &mut expected);
        }
        self.check(expected);
        Ok(())
    }

    fn time_out(&mut self) {
        let wake = self.removals.handle_timeout(self.now, &mut self.out);
        assert!(!wake.is_due(self.now), "{wake:?} at {:?}", self.now);
        let mut expected = Expected::default();
        for waiter in self.under_way.keys().copied().collect::<Vec<_>>() {
            while let Some(removal) =
                self.under_way.get_mut(&waiter).filter(|removal| removal.round_end <= self.now)
            {
                let silent = std::mem::take(&mut removal.pending);
                removal.unacknowledged.extend(silent);
                self.go_on(waiter, &mut expected);
            }
        }
        self.check(expected);
    }

    /// Takes over what was asked for, and compares.
    fn check(&mut self, mut expected: Expected) {
        let mut got = Expected::default();
        for intent in self.out.drain_intents() {
            let Intent::Invalidate { removal, peer, what, deadline } = intent else {
                panic!("removals do not ask for {intent:?}")
            };
            assert!(got.told.insert((waiter_of(&what), peer)), "{peer:?} is told twice in a round");
            // Of two rounds in one call the first is over already.
            if let Some(state) = self.under_way.get_mut(&waiter_of(&what))
                && state.pending.contains(&peer)
                && deadline == state.round_end
            {
                state.id = Some(removal);
                assert_eq!(state.is_flush, matches!(what, Invalidation::Group(_)));
            }
        }
        got.here = self
            .out
            .drain_calls()
            .map(|call| match call {
                Call::Invalidate { what } => waiter_of(&what),
                other => panic!("removals do not ask for {other:?}"),
            })
            .collect();
        for removed in self.out.drain_removals() {
            let mut unacknowledged = removed.unacknowledged;
            unacknowledged.sort_unstable();
            got.over.push((removed.waiter, unacknowledged));
        }
        for ended in [&mut expected, &mut got] {
            ended.here.sort_unstable();
            ended.over.sort_unstable();
        }
        assert_eq!(got, expected);
    }

    fn finish(&mut self) {
        self.removals.shutdown(self.now, &mut self.out);
        let mut expected = Expected::default();
        for (waiter, mut removal) in std::mem::take(&mut self.under_way) {
            removal.unacknowledged.extend(removal.pending);
            removal.unacknowledged.extend(removal.later.into_iter().flatten());
            expected.over.push((waiter, Vec::from_iter(removal.unacknowledged)));
        }
        self.check(expected);
        assert_eq!((self.removals.live(), self.removals.next_wake()), (0, Wake::Idle));
    }
}

/// What the removal of `waiter` is of: its number tells.
fn what(is_flush: bool, waiter: u32) -> Invalidation {
    if is_flush {
        return Invalidation::Group(GroupId::new(waiter));
    }
    Invalidation::Key(Key::from(&HashedKey::new(GroupId::new(waiter), b"k", 1)))
}

const fn waiter_of(what: &Invalidation) -> u32 {
    match what {
        Invalidation::Group(group) => group.index(),
        Invalidation::Key(key) => key.group().index(),
    }
}
