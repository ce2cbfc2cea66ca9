//! The removals' promises, one test each.

use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::id::GroupId;
use crate::value::{HashedKey, Key};

const G: GroupId = GroupId::new(0);
const OWNER: PeerId = PeerId::new(1);

struct Bench {
    removals: Removals<&'static str>,
    out: Effects<&'static str>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { removals: Removals::new(1, Instant::ZERO), out: Effects::new(), now: Instant::ZERO }
    }

    fn start(&mut self, owner: Option<PeerId>, members: &[u32]) -> Result<(), LoadError> {
        let key = Key::from(&HashedKey::new(G, b"k", 1));
        self.start_with(Invalidation::Key(key), owner, members)
    }

    fn start_with(
        &mut self,
        what: Invalidation,
        owner: Option<PeerId>,
        members: &[u32],
    ) -> Result<(), LoadError> {
        let members = members.iter().copied().map(PeerId::new).collect();
        let deadline = self.now.saturating_add(Duration::from_secs(2));
        let request = RemovalRequest::new(what, "w", members, deadline).owner(owner);
        self.removals.start(self.now, request, &mut self.out).map_err(|refused| refused.error)
    }

    /// Who is told, and under which id.
    fn told(&mut self) -> Vec<(RemovalId, PeerId)> {
        let intents = self.out.drain_intents();
        let told = intents.map(|intent| match intent {
            Intent::Invalidate { removal, peer, .. } => (removal, peer),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    fn applied_here(&mut self) -> bool {
        self.out.drain_calls().any(|call| matches!(call, Call::Invalidate { .. }))
    }

    fn finished(&mut self) -> Option<Vec<PeerId>> {
        self.out.drain_removals().next().map(|removed| removed.unacknowledged)
    }

    fn answer(&mut self, (removal, peer): (RemovalId, PeerId), acknowledged: bool) -> Disposition {
        self.removals.handle_invalidated(self.now, removal, peer, acknowledged, &mut self.out)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
        let _ = self.removals.handle_timeout(self.now, &mut self.out);
    }
}

#[test]
fn the_owner_forgets_before_anybody_else() {
    let mut bench = Bench::new();
    bench.start(Some(OWNER), &[1, 2, 3]).unwrap();
    let told = bench.told();
    assert_eq!(told.iter().map(|told| told.1).collect::<Vec<_>>(), [OWNER]);
    assert!(!bench.applied_here());
    bench.answer(told[0], true);
    assert!(bench.applied_here());
    let told = bench.told();
    assert_eq!(told.iter().map(|told| told.1.index()).collect::<Vec<_>>(), [2, 3]);
    bench.answer(told[1], true);
    assert_eq!(bench.finished(), None);
    bench.answer(told[0], true);
    assert_eq!(bench.finished(), Some(Vec::new()));
    assert_eq!(bench.answer(told[0], true), Disposition::Stale);
}

#[test]
fn a_lone_node_is_done_at_once() {
    let mut bench = Bench::new();
    bench.start(None, &[]).unwrap();
    assert!(bench.applied_here());
    assert_eq!(bench.finished(), Some(Vec::new()));
    assert_eq!((bench.removals.live(), bench.removals.next_wake()), (0, Wake::Idle));
}

#[test]
fn members_that_do_not_acknowledge_are_named() {
    let mut bench = Bench::new();
    bench.start(Some(OWNER), &[1, 2, 3]).unwrap();
    let owner = bench.told()[0];
    bench.answer(owner, false);
    let told = bench.told();
    bench.answer(told[0], true);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.finished(), Some([OWNER, PeerId::new(3)].to_vec()));
}

#[test]
fn a_silent_owner_gets_half_of_the_time() {
    let mut bench = Bench::new();
    bench.start(Some(OWNER), &[2]).unwrap();
    let owner = bench.told()[0];
    assert_eq!(bench.removals.next_wake(), Wake::At(Instant::ZERO.saturating_add(Duration::from_secs(1))));
    bench.pass(Duration::from_secs(1));
    assert!(bench.applied_here());
    let told = bench.told();
    assert_eq!(bench.answer(owner, true), Disposition::Stale);
    bench.answer(told[0], true);
    assert_eq!(bench.finished(), Some([OWNER].to_vec()));
}

#[test]
fn one_too_many_is_refused_and_a_finished_one_makes_room() {
    let mut bench = Bench::new();
    bench.start(None, &[2]).unwrap();
    assert_eq!(bench.start(None, &[2]), Err(LoadError::RemovalsFull { max: 1 }));
    let first = bench.told()[0];
    bench.answer(first, true);
    bench.start(None, &[2]).unwrap();
    assert_ne!(bench.told()[0].0, first.0, "ids are not used twice");
}

#[test]
fn a_shutdown_ends_every_removal_and_names_all_who_have_not_acknowledged() {
    let mut bench = Bench::new();
    bench.start(Some(OWNER), &[1, 2]).unwrap();
    bench.removals.shutdown(bench.now, &mut bench.out);
    assert_eq!(bench.finished(), Some([OWNER, PeerId::new(2)].to_vec()));
}

#[test]
fn a_flush_is_told_to_everybody_twice_since_everybody_owns_keys() {
    let mut bench = Bench::new();
    bench.start_with(Invalidation::Group(G), None, &[1, 2]).unwrap();
    assert!(bench.applied_here());
    let first = bench.told();
    assert_eq!(first.len(), 2);
    bench.answer(first[0], true);
    assert!(bench.told().is_empty());
    bench.answer(first[1], true);
    assert!(bench.applied_here());
    let second = bench.told();
    assert_eq!(second.len(), 2);
    assert_eq!(bench.answer(first[0], true), Disposition::Stale, "an answer counts for its own round");
    second.iter().for_each(|&told| assert_eq!(bench.answer(told, true), Disposition::Applied));
    assert_eq!(bench.finished(), Some(Vec::new()));
}

#[test]
fn a_member_that_is_silent_in_both_rounds_of_a_flush_is_named_once() {
    let mut bench = Bench::new();
    bench.start_with(Invalidation::Group(G), None, &[1, 2]).unwrap();
    for _round in 0..2 {
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(bench.finished(), Some([PeerId::new(1), PeerId::new(2)].to_vec()));
}

#[test]
fn removals_that_are_under_way_at_once_do_not_answer_for_each_other() {
    let mut bench = Bench::new();
    bench.removals = Removals::new(3, Instant::ZERO);
    for members in [[2, 3], [2, 4], [2, 5]] {
        bench.start(None, &members).unwrap();
    }
    assert_eq!(bench.removals.live(), 3);
    let told = bench.told();
    let of = |removal: usize| &told[2 * removal..2 * removal + 2];
    assert!(of(1).iter().all(|&told| bench.answer(told, true) == Disposition::Applied));
    assert_eq!((bench.finished(), bench.removals.live()), (Some(Vec::new()), 2));
    assert_eq!(bench.answer(of(2)[1], false), Disposition::Applied);
    assert_eq!(bench.answer(of(0)[0], true), Disposition::Applied);
    assert_eq!(bench.answer(of(2)[0], true), Disposition::Applied);
    assert_eq!(bench.finished(), Some([PeerId::new(5)].to_vec()));
    assert_eq!(bench.answer(of(0)[1], true), Disposition::Applied);
    assert_eq!((bench.finished(), bench.removals.live()), (Some(Vec::new()), 0));
}

#[test]
fn who_has_time_left_is_waited_for_to_the_last_moment() {
    let mut bench = Bench::new();
    bench.start(Some(OWNER), &[2]).unwrap();
    bench.told();
    bench.pass(Duration::from_secs(1) - Duration::from_nanos(1));
    assert!(bench.out.is_empty());
    bench.pass(Duration::from_nanos(1));
    assert_eq!(bench.told().len(), 1);
    let end = Instant::ZERO.saturating_add(Duration::from_secs(2));
    assert_eq!(bench.removals.next_wake(), Wake::At(end));
    bench.pass(Duration::from_secs(1) - Duration::from_nanos(1));
    assert_eq!(bench.finished(), None);
    bench.pass(Duration::from_nanos(1));
    assert_eq!(bench.finished(), Some([OWNER, PeerId::new(2)].to_vec()));
}

#[test]
fn removals_that_are_behind_their_time_want_to_be_called_at_once() {
    let mut bench = Bench::new();
    bench.start(Some(OWNER), &[2]).unwrap();
    let unknown = RemovalId::new(7, 0);
    bench.now = bench.now.saturating_add(Duration::from_secs(1));
    assert_eq!(bench.answer((unknown, OWNER), true), Disposition::Stale);
    assert_eq!(bench.removals.next_wake(), Wake::Now);
}
