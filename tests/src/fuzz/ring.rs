//! Rings of any members, against what every scheme promises, and against the schemes written down again without a table.

mod naive;

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use groupcache_core::{Member, PeerId, Placement, Ring, RingEpoch};

/// Owners and successors are those of the naive model; a rebuild is the ring that was built anew; under slots only the
/// keys of a member that changes move, whatever the order of the list.
pub fn ring(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let _ended = run(&mut bytes);
}

const KEYS: u32 = 64;

fn run(bytes: &mut Unstructured<'_>) -> Result<()> {
    let slots = [Placement::SlotsLarge, Placement::SlotsLarge, Placement::SlotsLarge, Placement::SlotsHuge];
    let large = if bytes.ratio(1, 8)? { *bytes.choose(&slots)? } else { Placement::Slots };
    let placement = *bytes.choose(&[large, Placement::GoSeed])?;
    let mut ring = Ring::empty(placement, RingEpoch::new(0));
    // More in one input finds nothing more, and tables of slots take their time.
    for _ in 0..if placement == Placement::Slots || placement == Placement::GoSeed { 8 } else { 2 } {
        let mut members = ring.members().to_vec();
        for _ in 0..bytes.int_in_range(1..=2)? {
            change(bytes, placement, &mut members)?;
        }
        let epoch = ring.epoch().next();
        let rebuilt = ring.rebuild(epoch, members.clone());
        assert_eq!(rebuilt.is_ok(), is_valid(placement, &members), "{members:?}");
        let Ok(rebuilt) = rebuilt else { continue };
        assert!(rebuilt == Ring::new(placement, epoch, members.clone()).expect("the same members"));
        check(&rebuilt, &members);
        if placement != Placement::GoSeed {
            check_movement(&ring, &rebuilt);
        }
        ring = rebuilt;
    }
    Ok(())
}

/// A join, a leave, another weight, another number, or something that no ring takes.
fn change(bytes: &mut Unstructured<'_>, placement: Placement, members: &mut Vec<Member>) -> Result<()> {
    let (index, has_room) = (bytes.int_in_range(0..=members.len().saturating_sub(1))?, members.len() < 6);
    match (bytes.int_in_range(0..=15)?, members.get_mut(index)) {
        (0..=3, Some(member)) => {
            let max = if placement == Placement::GoSeed { 1 } else { 3 };
            *member = member.clone().with_weight(bytes.int_in_range(1..=max)?);
        }
        (4..=6, Some(_)) => drop(members.swap_remove(index)),
        (7, Some(member)) => {
            let id = PeerId::new(bytes.int_in_range(0..=12)?);
            *member = Member::new(id, member.name()).with_weight(member.weight());
        }
        (8, Some(member)) => *member = member.clone().with_weight(*bytes.choose(&[0, 257, u32::MAX])?),
        (9, _) => members.push(Member::new(PeerId::new(99), "")),
        _ if has_room => {
            let number = bytes.int_in_range(0..=11_u32)?;
            members.push(Member::new(PeerId::new(number), name(number)));
        }
        _ => {}
    }
    Ok(())
}

/// Some of them have points in common under `go-seed`: `localhost:800` with 12 behind it is `localhost:8001` with 2.
fn name(number: u32) -> String {
    match number {
        0..8 => format!("10.0.0.{number}:6324"),
        8 => "localhost:800".to_owned(),
        _ => format!("localhost:800{}", number - 8),
    }
}

fn is_valid(placement: Placement, members: &[Member]) -> bool {
    let names: BTreeSet<_> = members.iter().map(Member::name).collect();
    let ids: BTreeSet<_> = members.iter().map(Member::id).collect();
    let weights = members.iter().all(|member| (1..=placement.max_weight()).contains(&member.weight()));
    weights && !names.contains("") && names.len() == members.len() && ids.len() == members.len()
}

fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|n| format!("key-{n}"))
}

/// A key that is a label of a point has the very hash of that point: these are labels of two members at once.
fn close_to_shared_points() -> impl Iterator<Item = String> {
    (10..50).map(|n| format!("localhost:800{n}"))
}

fn check(ring: &Ring, members: &[Member]) {
    assert_eq!(ring.len(), members.len());
    let shares: f64 = members.iter().map(|member| ring.share(member.id())).sum();
    assert!(members.is_empty() || (shares - 1.0).abs() < 1e-6, "the shares add up to {shares}");
    for member in members {
        assert_eq!((ring.member(member.id()), ring.by_name(member.name())), (Some(member), Some(member)));
    }
    for key in keys().chain(close_to_shared_points()) {
        let expected = naive::order(ring.placement(), members, key.as_bytes());
        assert_eq!(ring.owner(key.as_bytes()).map(Member::name), expected.first().copied(), "{key}");
        let successors = ring.successors(key.as_bytes());
        assert_eq!(successors.len(), members.len());
        assert_eq!(successors.map(Member::name).collect::<Vec<_>>(), expected, "{key}");
    }
}

/// Keys move only away from members that left or lost weight, or to members that joined or gained weight.
fn check_movement(old: &Ring, new: &Ring) {
    let weight = |ring: &Ring, name: &str| ring.by_name(name).map_or(0, Member::weight);
    for key in keys() {
        let (Some(from), Some(to)) = (old.owner(key.as_bytes()), new.owner(key.as_bytes())) else { continue };
        if from.name() != to.name() {
            let lost = weight(new, from.name()) < from.weight();
            let gained = weight(old, to.name()) < to.weight();
            assert!(lost || gained, "{key} moved from {from:?} to {to:?} for nothing");
        }
        // Who is away is succeeded by the next in line: the others do not change places.
        if old.members().iter().all(|member| weight(new, member.name()) <= member.weight()) {
            let stays = |member: &&Member| weight(new, member.name()) == member.weight();
            if new.members().iter().all(|member| weight(old, member.name()) == member.weight()) {
                let next = old.successors(key.as_bytes()).find(stays).map(Member::name);
                assert_eq!(next, Some(to.name()));
            }
        }
    }
    let mut reversed = new.members().to_vec();
    reversed.reverse();
    let again = new.rebuild(new.epoch(), reversed).expect("the same members");
    assert!(again == *new && again.fingerprint() == new.fingerprint(), "the order of the list matters");
}
