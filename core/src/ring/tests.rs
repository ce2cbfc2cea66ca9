//! What the ring promises, by property and by figure. Golden vectors are in `tests/ring_vectors.rs`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64;

use super::placement::Table;
use super::*;
use crate::rng::SplitMix64;

fn named(names: &[&str]) -> Vec<Member> {
    names.iter().zip(0..).map(|(&name, id)| Member::new(PeerId::new(id), name)).collect()
}

/// `n` members with names as fleets have them; `set` makes other names.
fn fleet(n: usize, set: u64) -> Vec<Member> {
    let name = |i: usize| format!("cache-{set}-{i}.prod.example.com:6324");
    (0..n).map(|i| Member::new(PeerId::new(i as u32), name(i))).collect()
}

fn ring(placement: Placement, members: Vec<Member>) -> Ring {
    Ring::new(placement, RingEpoch::new(1), members).unwrap()
}

fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| format!("user:{i}:profile"))
}

fn names(successors: Successors<'_>) -> Vec<String> {
    successors.map(|member| member.name().to_string()).collect()
}

/// Owner of every slot, by name.
fn owners(ring: &Ring) -> Vec<&str> {
    let Table::Slots(table) = &ring.table else { panic!("not a table of slots") };
    table.owners().iter().map(|&index| ring.members()[usize::from(index)].name()).collect()
}

#[test]
fn the_whole_table_agrees_with_the_independent_program() {
    let vectors = include_str!("../../tests/data/placement_vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
    let mut tables = 0;
    for fleet in vectors["fleets"].as_array().unwrap() {
        let Some(expected) = fleet["table_xxh3"].as_str() else { continue };
        let placement = fleet["placement"].as_str().unwrap().parse().unwrap();
        let member = |(member, id): (&serde_json::Value, u32)| {
            let weight = member[1].as_u64().unwrap() as u32;
            Member::new(PeerId::new(id), member[0].as_str().unwrap()).with_weight(weight)
        };
        let ring =
            ring(placement, fleet["members"].as_array().unwrap().iter().zip(0..).map(member).collect());
        let Table::Slots(table) = &ring.table else { panic!("{placement} has no slots") };
        let bytes: Vec<u8> = table.owners().iter().flat_map(|owner| owner.to_le_bytes()).collect();
        assert_eq!(format!("{:016x}", xxh3_64(&bytes)), expected, "{ring:?}");
        tables += 1;
    }
    assert_eq!(tables, 7);
}

#[test]
fn an_empty_ring_has_no_owner_no_successors_and_no_shares() {
    for placement in Placement::ALL {
        for ring in [ring(placement, vec![]), Ring::empty(placement, RingEpoch::new(1))] {
            assert_eq!(ring.owner(b"key"), None);
            assert_eq!(ring.successors(b"key").count(), 0);
            assert_eq!(ring.share(PeerId::new(0)), 0.0);
            assert_eq!((ring.len(), ring.is_empty(), ring.members()), (0, true, &[][..]));
            assert_eq!((ring.member(PeerId::new(0)), ring.by_name("a:1")), (None, None));
        }
        assert_eq!(ring(placement, vec![]), Ring::empty(placement, RingEpoch::new(1)));
    }
}

#[test]
fn a_single_member_owns_everything() {
    for placement in Placement::ALL {
        let ring = ring(placement, named(&["a:1"]));
        for key in keys(100) {
            assert_eq!(ring.owner(key.as_bytes()).map(Member::name), Some("a:1"));
            assert_eq!(names(ring.successors(key.as_bytes())), ["a:1"]);
        }
        assert_eq!(ring.owner(b""), ring.by_name("a:1"));
        assert_eq!(ring.share(PeerId::new(0)), 1.0);
    }
}

#[test]
fn members_are_found_by_id_and_by_their_exact_name() {
    for placement in Placement::ALL {
        let list = [("b:1", 7), ("a:1", 9), ("c:1", 2)];
        let list = list.map(|(name, id)| Member::new(PeerId::new(id), name));
        let ring = ring(placement, list.to_vec());
        for member in &list {
            assert_eq!(ring.member(member.id()), Some(member));
            assert_eq!(ring.by_name(member.name()), Some(member));
        }
        for absent in ["", "a", "a:1 ", "A:1", "a:10", "z"] {
            assert_eq!(ring.by_name(absent), None);
        }
        assert_eq!(ring.member(PeerId::new(1)), None);
        assert_eq!((ring.len(), ring.is_empty()), (3, false));
        assert_eq!((ring.placement(), ring.epoch()), (placement, RingEpoch::new(1)));
    }
}

#[test]
fn members_come_by_name_from_slots_and_as_listed_from_go_seed() {
    let listed = ["b:1", "a:1", "c:1"];
    let order = |placement| {
        let ring = ring(placement, named(&listed));
        ring.members().iter().map(|member| member.name().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(order(Placement::Slots), ["a:1", "b:1", "c:1"]);
    assert_eq!(order(Placement::GoSeed), listed);
}

#[test]
fn lists_that_make_no_ring_are_refused_with_what_is_wrong() {
    let epoch = RingEpoch::new(1);
    for placement in Placement::ALL {
        let fails = |members: Vec<Member>| {
            let fresh = Ring::new(placement, epoch, members.clone()).unwrap_err();
            let good = ring(placement, named(&["x:1"]));
            assert_eq!(good.rebuild(epoch, members).unwrap_err(), fresh);
            assert_eq!(good, ring(placement, named(&["x:1"])));
            fresh
        };
        assert_eq!(fails(named(&["a:1", "b:1", "a:1"])), RingError::DuplicateMember("a:1".into()));
        assert_eq!(fails(named(&["a:1", ""])), RingError::EmptyName);
        let same_id = ["a:1", "b:1"].map(|name| Member::new(PeerId::new(4), name));
        let members = ["a:1".into(), "b:1".into()];
        assert_eq!(fails(same_id.to_vec()), RingError::DuplicateId { id: PeerId::new(4), members });
        let max = placement.max_weight();
        for weight in [0, max + 1, u32::MAX] {
            let mut list = named(&["a:1", "b:1"]);
            list[1] = list[1].clone().with_weight(weight);
            assert_eq!(fails(list), RingError::BadWeight { member: "b:1".into(), weight, max });
        }
        let max = placement.max_members();
        let error = fails(fleet(max + 1, 0));
        assert_eq!(error, RingError::TooManyMembers { count: max + 1, max });
    }
}

#[test]
fn as_many_members_are_taken_as_a_scheme_places() {
    for placement in Placement::ALL {
        let max = placement.max_members();
        assert_eq!(Roster::new(placement, fleet(max, 0)).map(|roster| roster.members().len()), Ok(max));
    }
}

#[test]
fn limits_are_as_documented() {
    assert_eq!(Placement::ALL.map(Placement::max_weight), [256, 256, 256, 1]);
    assert_eq!(Placement::ALL.map(Placement::max_members), [4096, 16_384, 65_535, 65_535]);
    let ring = ring(Placement::Slots, vec![named(&["a:1"])[0].clone().with_weight(256)]);
    assert_eq!(ring.owner(b"key").map(Member::weight), Some(256));
}

#[test]
fn schemes_are_found_by_their_exact_names() {
    assert_eq!(Placement::default(), Placement::Slots);
    for placement in Placement::ALL {
        assert_eq!(Placement::from_name(placement.name()), Some(placement));
        assert_eq!(placement.to_string().parse(), Ok(placement));
        let known = RingError::UnknownScheme("?".into()).to_string();
        assert!(known.contains(&format!("`{placement}`")), "{known}");
    }
    for absent in ["", "slots", "slots/2", "Slots/1", "go-crc32"] {
        assert_eq!(absent.parse::<Placement>(), Err(RingError::UnknownScheme(absent.into())));
    }
}

#[test]
fn slots_do_not_depend_on_order_ids_or_epoch() {
    let mut rng = SplitMix64::new(3);
    let mut members = fleet(9, 0);
    members[4] = members[4].clone().with_weight(5);
    let ring = ring(Placement::Slots, members.clone());
    for round in 0..5 {
        for at in (1..members.len()).rev() {
            members.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let renumbered = members.iter().zip(100..);
        let renumbered =
            renumbered.map(|(m, id)| Member::new(PeerId::new(id), m.name()).with_weight(m.weight()));
        let other = Ring::new(Placement::Slots, RingEpoch::new(round), renumbered.collect()).unwrap();
        assert_eq!(owners(&other), owners(&ring));
        assert_eq!(other.fingerprint(), ring.fingerprint());
        for key in keys(50) {
            assert_eq!(names(other.successors(key.as_bytes())), names(ring.successors(key.as_bytes())));
        }
    }
}

#[test]
fn a_rebuilt_ring_equals_one_built_from_scratch() {
    for (placement, rounds) in [
        (Placement::Slots, 60),
        (Placement::SlotsLarge, 8),
        (Placement::SlotsHuge, 1),
        (Placement::GoSeed, 60),
    ] {
        let mut rng = SplitMix64::new(11);
        let mut ring = ring(placement, vec![]);
        let mut members: Vec<Member> = Vec::new();
        for round in 0..rounds {
            for _ in 0..=rng.below(3) {
                change_one(&mut members, &mut rng, placement.max_weight().min(6));
            }
            let epoch = RingEpoch::new(round);
            ring = ring.rebuild(epoch, members.clone()).unwrap();
            let fresh = Ring::new(placement, epoch, members.clone()).unwrap();
            assert!(ring == fresh, "round {round}: {ring:?}");
        }
    }
}

/// Lets a member join, leave, change its weight, or come back under another id.
fn change_one(members: &mut Vec<Member>, rng: &mut SplitMix64, max_weight: u32) {
    let weight = 1 + rng.below(u64::from(max_weight)) as u32;
    let name = format!("node-{}:1", rng.below(14));
    let id = PeerId::new((rng.next_u64() >> 32) as u32);
    let at = members.iter().position(|member| member.name() == name);
    match (at, rng.below(3)) {
        (None, _) => {
            let place = rng.below(members.len() as u64 + 1) as usize;
            members.insert(place, Member::new(id, name).with_weight(weight));
        }
        (Some(at), 0) => drop(members.remove(at)),
        (Some(at), 1) => members[at] = members[at].clone().with_weight(weight),
        (Some(at), _) => members[at] = Member::new(id, name).with_weight(members[at].weight()),
    }
}

#[test]
fn rebuilding_survives_extremes() {
    let one = ring(Placement::Slots, named(&["a:1"]));
    let heavy = |weight| vec![named(&["a:1"])[0].clone().with_weight(weight)];
    let lists = [heavy(256), named(&[]), heavy(256), heavy(1), named(&["b:1", "c:1"]), named(&["a:1"])];
    let last = lists.into_iter().fold(one.clone(), |ring, members| {
        let rebuilt = ring.rebuild(ring.epoch().next(), members.clone()).unwrap();
        assert_eq!(rebuilt, Ring::new(Placement::Slots, rebuilt.epoch(), members).unwrap());
        rebuilt
    });
    assert_eq!((owners(&last), last.epoch()), (owners(&one), RingEpoch::new(7)));
}

#[test]
fn new_ids_alone_share_the_tables() {
    let ring = ring(Placement::Slots, fleet(5, 0));
    let renumbered =
        fleet(5, 0).iter().zip(50..).map(|(m, id)| Member::new(PeerId::new(id), m.name())).collect();
    let rebuilt = ring.rebuild(RingEpoch::new(2), renumbered).unwrap();
    let (Table::Slots(a), Table::Slots(b)) = (&ring.table, &rebuilt.table) else { panic!("not slots") };
    assert!(core::ptr::eq(a.owners(), b.owners()));
    assert_eq!(
        rebuilt.owner(b"key").map(|m| m.id().index()),
        ring.owner(b"key").map(|m| m.id().index() + 50)
    );
}

#[test]
fn a_join_moves_keys_to_the_new_member_only() {
    for placement in Placement::ALL {
        let before = ring(placement, fleet(10, 0));
        let after = before.rebuild(RingEpoch::new(2), fleet(11, 0)).unwrap();
        let new = after.members().iter().find(|member| before.by_name(member.name()).is_none()).unwrap();
        let (mut moved, mut all) = (0, 0);
        for key in keys(20_000) {
            let (old, now) = (before.owner(key.as_bytes()), after.owner(key.as_bytes()));
            if old != now {
                assert_eq!(now, Some(new), "{placement}: {key} went astray");
                moved += 1;
            }
            all += 1;
        }
        assert!(moved > all / 30 && moved < all / 6, "{placement}: {moved} of {all}");
    }
}

#[test]
fn a_leave_moves_the_leavers_keys_only_and_each_to_its_successor() {
    for placement in Placement::ALL {
        let before = ring(placement, fleet(10, 0));
        let mut left = fleet(10, 0);
        let gone = left.remove(4);
        let after = before.rebuild(RingEpoch::new(2), left).unwrap();
        for key in keys(20_000) {
            let mut order = before.successors(key.as_bytes());
            let owner = order.next().filter(|owner| **owner != gone).or_else(|| order.next());
            assert_eq!(after.owner(key.as_bytes()), owner, "{placement}: {key}");
        }
    }
}

#[test]
fn leaving_any_members_keeps_the_order_of_the_others() {
    for placement in Placement::ALL {
        let before =
            ring(placement, named(&["localhost:800", "localhost:8001", "localhost:8002", "d:1", "e:1"]));
        let left = ["localhost:800", "localhost:8002", "e:1"];
        let after = before.rebuild(RingEpoch::new(2), named(&left)).unwrap();
        for key in keys(2_000) {
            let mut order = names(before.successors(key.as_bytes()));
            order.retain(|name| left.contains(&name.as_str()));
            assert_eq!(names(after.successors(key.as_bytes())), order, "{placement}: {key}");
        }
    }
}

#[test]
fn a_weight_change_moves_keys_to_or_from_that_member_only() {
    let with_weight = |weight| {
        let mut members = fleet(9, 0);
        members[3] = members[3].clone().with_weight(weight);
        members
    };
    let light = ring(Placement::Slots, with_weight(1));
    let heavy = light.rebuild(RingEpoch::new(2), with_weight(3)).unwrap();
    let back = heavy.rebuild(RingEpoch::new(1), with_weight(1)).unwrap();
    assert!(back == light);
    let name = with_weight(1)[3].name().to_string();
    let mut moved = 0;
    for (before, after) in owners(&light).into_iter().zip(owners(&heavy)) {
        if before != after {
            assert_eq!(after, name);
            moved += 1;
        }
    }
    // from 1/9 to 3/11 of 65,536 slots
    assert!((9_900..11_300).contains(&moved), "{moved}");
}

#[test]
fn successors_name_every_member_once_the_owner_first() {
    let mut weighted = fleet(40, 0);
    weighted[7] = weighted[7].clone().with_weight(30);
    for (placement, members) in [
        (Placement::Slots, weighted),
        (Placement::SlotsLarge, fleet(3, 0)),
        (Placement::GoSeed, fleet(40, 0)),
    ] {
        let ring = ring(placement, members);
        for key in keys(200) {
            let mut successors = ring.successors(key.as_bytes());
            assert_eq!(successors.len(), ring.len());
            let mut order = names(successors.clone());
            assert_eq!(order.first().map(String::as_str), ring.owner(key.as_bytes()).map(Member::name));
            order.sort_unstable();
            order.dedup();
            assert_eq!(order.len(), ring.len());
            assert!(successors.nth(ring.len() - 1).is_some());
            assert_eq!((successors.next(), successors.next(), successors.len()), (None, None, 0));
        }
    }
}

/// The busiest member's share over the mean share.
fn peak_over_mean(ring: &Ring) -> f64 {
    let shares = ring.members().iter().map(|member| ring.share(member.id()));
    shares.fold(0.0, f64::max) * ring.len() as f64
}

#[test]
fn slots_balance_as_measured() {
    let mean =
        |placement, n| (0..5).map(|set| peak_over_mean(&ring(placement, fleet(n, set)))).sum::<f64>() / 5.0;
    for (placement, n, expected) in [
        (Placement::Slots, 3, 1.01),
        (Placement::Slots, 10, 1.02),
        (Placement::Slots, 100, 1.09),
        (Placement::SlotsLarge, 10, 1.01),
        (Placement::SlotsHuge, 10, 1.005),
    ] {
        let found = mean(placement, n);
        assert!((found - expected).abs() < 0.015, "{placement}, {n} members: {found}");
    }
}

#[test]
fn weights_set_the_shares() {
    let members = fleet(9, 0).into_iter().zip([1, 2, 4].into_iter().cycle());
    let ring = ring(Placement::Slots, members.map(|(member, weight)| member.with_weight(weight)).collect());
    for member in ring.members() {
        let fair = f64::from(member.weight()) / 21.0;
        let found = ring.share(member.id()) / fair;
        assert!((0.95..1.05).contains(&found), "{}: {found}", member.name());
    }
}

#[test]
fn shares_add_up_to_one_and_tell_how_many_keys_a_member_gets() {
    for placement in Placement::ALL {
        let ring = ring(placement, fleet(7, 0));
        let total: f64 = ring.members().iter().map(|member| ring.share(member.id())).sum();
        assert!((total - 1.0).abs() < 1e-12, "{placement}: {total}");
        for member in ring.members() {
            // Random keys: crc32 spreads numbered ones too evenly or too badly to tell.
            let mut rng = SplitMix64::new(5);
            let owned =
                (0..20_000).filter(|_| ring.owner(&rng.next_u64().to_le_bytes()) == Some(member)).count();
            let (found, share) = (owned as f64 / 20_000.0, ring.share(member.id()));
            assert!((found - share).abs() < 0.015, "{placement}: {found} of the keys, a share of {share}");
        }
        assert_eq!(ring.share(PeerId::new(77)), 0.0);
    }
}

#[test]
fn fingerprints_tell_schemes_names_and_weights_apart_and_nothing_else() {
    let print = |placement, members| ring(placement, members).fingerprint();
    let mut heavier = named(&["a:1", "b:1"]);
    heavier[1] = heavier[1].clone().with_weight(2);
    let mut swapped = named(&["a:1", "b:1"]);
    swapped[0] = swapped[0].clone().with_weight(2);
    let mut prints = vec![
        print(Placement::Slots, named(&["a:1", "b:1"])),
        print(Placement::SlotsLarge, named(&["a:1", "b:1"])),
        print(Placement::SlotsHuge, named(&["a:1", "b:1"])),
        print(Placement::GoSeed, named(&["a:1", "b:1"])),
        print(Placement::GoSeed, named(&["b:1", "a:1"])),
        print(Placement::Slots, heavier),
        print(Placement::Slots, swapped),
        print(Placement::Slots, named(&["a:1", "b:2"])),
        print(Placement::Slots, named(&["a:1b:1"])),
        print(Placement::Slots, named(&["a:1b", ":1"])),
        print(Placement::Slots, named(&["a:1"])),
        print(Placement::Slots, named(&[])),
    ];
    assert_eq!(print(Placement::Slots, named(&["b:1", "a:1"])), prints[0]);
    let made = prints.len();
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), made);
}

#[test]
fn debug_output_leaves_the_tables_out() {
    let text = format!("{:?}", ring(Placement::Slots, named(&["a:1"])));
    assert!(text.contains("a:1") && text.contains("fingerprint: ") && text.len() < 300, "{text}");
}

#[test]
fn epochs_count_up_and_stop_at_the_end() {
    assert_eq!(RingEpoch::new(4).next().get(), 5);
    assert_eq!(RingEpoch::new(u64::MAX).next(), RingEpoch::new(u64::MAX));
    assert_eq!(RingEpoch::default().to_string(), "0");
}
