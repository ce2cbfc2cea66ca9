//! How machines hand things to each other: the same for a single-threaded [`Node`](crate::Node) and for machines behind locks.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::effects::{Call, Effects, FetchItem, Invalidation, Outcome, Settled};
use crate::error::RingError;
use crate::id::PeerId;
use crate::link::{Link, LinkRefused};
use crate::membership::Membership;
use crate::ring::{Member, Ring, RingEpoch};
use crate::shard::Shard;
use crate::time::Instant;

/// Access to the machines of one node, one at a time. Implement it to compose them in a way of your own: behind locks, on several threads.
pub trait Machines<W> {
    /// How many shards there are.
    fn shards(&self) -> u16;

    /// Runs `call` on shard `index`, which is below [`shards`](Self::shards).
    fn with_shard<T>(&mut self, index: u16, call: impl FnOnce(&mut Shard<W>) -> T) -> T;

    /// Runs `call` on the link to `peer`; `None` where there is no such link.
    fn with_link<T>(&mut self, peer: PeerId, call: impl FnOnce(&mut Link) -> T) -> Option<T>;
}

/// Passes calls and settled fetches on between machines until none is left in `fx`. What remains there is for the embedder.
///
/// Ends: every call is answered by at most one settled fetch, each settled fetch by at most one call, and a flight makes a bounded number of
/// attempts.
pub fn pass_on<W>(machines: &mut impl Machines<W>, now: Instant, fx: &mut Effects<W>) {
    while !fx.calls.is_empty() || !fx.settled.is_empty() {
        let mut calls = core::mem::take(&mut fx.calls);
        together(&mut calls, |call| match call {
            Call::Fetch { peer, .. } => Some(peer.index()),
            Call::Cancel { .. } | Call::Invalidate { .. } => None,
        });
        let mut rest = calls.drain(..).peekable();
        while let Some(call) = rest.next() {
            match call {
                Call::Fetch { peer, item } => {
                    let further = core::iter::from_fn(|| next_fetch(&mut rest, peer));
                    pass_fetches(machines, now, peer, core::iter::once(item).chain(further), fx);
                }
                Call::Cancel { peer, flight } => {
                    machines.with_link(peer, |link| link.cancel(now, flight, fx));
                }
                Call::Invalidate { what } => forget_here(machines, now, &what, fx),
            }
        }
        drop(rest);
        give_back(&mut fx.calls, calls);

        let mut settled = core::mem::take(&mut fx.settled);
        if machines.shards() > 1 {
            together(&mut settled, |fetch| Some(fetch.flight.shard().into()));
        }
        let mut rest = settled.drain(..).peekable();
        while let Some(shard) = rest.peek().map(|fetch| fetch.flight.shard()) {
            let run = core::iter::from_fn(|| rest.next_if(|fetch| fetch.flight.shard() == shard));
            pass_settled(machines, now, shard, run, fx);
        }
        drop(rest);
        give_back(&mut fx.settled, settled);
    }
}

/// Brings together what goes to the same machine, so that it is locked once for all of it, and what leaves for a peer leaves in one message. What goes
/// to one machine stays in order, and so does everything before and behind what has no such `target`.
fn together<T>(things: &mut [T], target: impl Fn(&T) -> Option<u32>) {
    for run in things.chunk_by_mut(|a, b| target(a).is_some() && target(b).is_some()) {
        run.sort_by_key(&target);
    }
}

/// Returns a drained buffer to where it came from, so that the next turn need not allocate one.
fn give_back<T>(place: &mut Vec<T>, mut drained: Vec<T>) {
    drained.append(place);
    *place = drained;
}

fn next_fetch(calls: &mut core::iter::Peekable<impl Iterator<Item = Call>>, of: PeerId) -> Option<FetchItem> {
    match calls.next_if(|call| matches!(call, Call::Fetch { peer, .. } if *peer == of)) {
        Some(Call::Fetch { item, .. }) => Some(item),
        Some(Call::Cancel { .. } | Call::Invalidate { .. }) | None => None,
    }
}

fn pass_fetches<W>(
    machines: &mut impl Machines<W>,
    now: Instant,
    peer: PeerId,
    mut items: impl Iterator<Item = FetchItem>,
    fx: &mut Effects<W>,
) {
    let mut refused = Vec::new();
    machines.with_link(peer, |link| link.fetch_all(now, items.by_ref(), &mut refused, fx));
    // What is left was for a link that is not there.
    refused.extend(items.map(|item| (item, LinkRefused::Closed)));
    for (item, why) in refused {
        let outcome = Outcome::Unreachable(Some(Arc::new(why)));
        machines.with_shard(item.flight.shard(), |shard| {
            shard.handle_fetched(now, item.flight, item.attempt, outcome, fx)
        });
    }
}

fn pass_settled<W>(
    machines: &mut impl Machines<W>,
    now: Instant,
    shard: u16,
    settled: impl Iterator<Item = Settled>,
    fx: &mut Effects<W>,
) {
    if shard >= machines.shards() {
        return settled.for_each(drop);
    }
    machines.with_shard(shard, |shard| {
        for fetch in settled {
            let _counted = shard.handle_fetched(now, fetch.flight, fetch.attempt, fetch.outcome, fx);
        }
    });
}

/// Forgets a key or a group on this node, and only here. What a peer's invalidation asks for.
pub fn forget_here<W>(
    machines: &mut impl Machines<W>,
    now: Instant,
    what: &Invalidation,
    fx: &mut Effects<W>,
) {
    match what {
        Invalidation::Key(key) => {
            let key = key.as_hashed();
            machines.with_shard(key.shard(machines.shards()), |shard| shard.invalidate(now, &key, fx));
        }
        Invalidation::Group(group) => {
            for index in 0..machines.shards() {
                machines.with_shard(index, |shard| shard.flush(now, *group));
            }
        }
    }
}

/// The ring of a membership's current view, made from the one before.
///
/// A node that runs is on its own ring, whatever the registry holds at the moment: one that has not registered yet, or whose record was lost,
/// serves its part all the same. A node that is leaving is not.
///
/// # Errors
/// The view makes no ring: the previous one had better stay.
pub fn ring_of(membership: &Membership, previous: &Ring) -> Result<Ring, RingError> {
    let member = |record: &crate::membership::MemberRecord| {
        let id = membership.peer_id(&record.addr)?;
        Some(Member::new(id, Arc::clone(&record.addr)).with_weight(record.weight))
    };
    let me = membership.me();
    let mut records: Vec<_> = membership.members().iter().filter(|record| record.addr != me.addr).collect();
    if membership.is_running() {
        let listed = membership.members().iter().find(|record| record.addr == me.addr);
        // By address, as the others are: a scheme may depend on the order.
        let place = records.partition_point(|record| record.addr < me.addr);
        records.insert(place, listed.unwrap_or(me));
    }
    let members: Vec<Member> = records.into_iter().filter_map(member).collect();
    previous.rebuild(RingEpoch::new(membership.ring_epoch()), members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::{Intent, RegistryIntent};
    use crate::id::Revision;
    use crate::membership::{MemberRecord, MembershipConfig, RegistryOutcome};
    use crate::ring::Placement;

    #[test]
    fn a_node_that_is_not_registered_yet_takes_the_place_on_its_ring_that_its_address_will_have() {
        for me in ["a:1", "c:1", "e:1"] {
            let (now, mut out) = (Instant::ZERO, Effects::<()>::new());
            let mut membership = Membership::new(MembershipConfig::new(me), 1, now).unwrap();
            membership.start(now, &mut out);
            let list = out.drain_intents().find_map(|intent| match intent {
                Intent::Registry(RegistryIntent::List { op }) => Some(op),
                _ => None,
            });
            let records = ["b:1", "d:1"].map(|addr| MemberRecord::new(addr, 1)).into();
            let listed = RegistryOutcome::Listed { records, revision: Revision::new(1) };
            let _ = membership.handle_registry(now, list.unwrap(), listed, &mut out);
            // With this scheme the order of the members is part of the ring.
            let ring = ring_of(&membership, &Ring::empty(Placement::GoSeed, RingEpoch::new(0))).unwrap();
            let names: Vec<_> = ring.members().iter().map(Member::name).collect();
            let mut sorted = [me, "b:1", "d:1"];
            sorted.sort_unstable();
            assert_eq!(names, sorted);
            assert_eq!(ring.by_name(me).map(Member::id), Some(PeerId::new(0)));
        }
    }

    #[test]
    fn what_goes_to_one_machine_comes_together_in_order_and_passes_nothing_without_a_target() {
        let mut things =
            [(Some(2), 'a'), (Some(1), 'b'), (Some(2), 'c'), (None, 'd'), (Some(1), 'e'), (Some(0), 'f')];
        together(&mut things, |thing| thing.0);
        let order: alloc::string::String = things.iter().map(|thing| thing.1).collect();
        assert_eq!(order, "bacdfe");
    }
}
