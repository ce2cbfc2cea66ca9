//! The schemes as `ARCHITECTURE.md` defines them, written down again without a table: everything is computed for every key.

use std::cmp::Reverse;

use groupcache_core::{Member, Placement};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The names of the members in the order in which they succeed each other for `key`: the owner first.
pub(super) fn order<'a>(placement: Placement, members: &'a [Member], key: &[u8]) -> Vec<&'a str> {
    match placement {
        Placement::Slots => by_score(members, xxh3_64(key) >> (64 - 16)),
        Placement::SlotsLarge => by_score(members, xxh3_64(key) >> (64 - 18)),
        Placement::SlotsHuge => by_score(members, xxh3_64(key) >> (64 - 20)),
        Placement::GoSeed => by_points(members, crc32(key)),
        other => panic!("{other} has no model"),
    }
}

fn by_score(members: &[Member], slot: u64) -> Vec<&str> {
    let slot_hash = mix((slot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let score = |member: &Member| {
        let tickets = 0..u64::from(member.weight());
        tickets.map(|ticket| mix(slot_hash ^ xxh3_64_with_seed(member.name().as_bytes(), ticket))).max()
    };
    let mut order: Vec<_> = members.iter().map(|member| (Reverse(score(member)), member.name())).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, name)| name).collect()
}

const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn by_points(members: &[Member], hash: u32) -> Vec<&str> {
    let point = |at: usize, i: u32| (crc32(format!("{}{i}", members[at].name()).as_bytes()), Reverse(at));
    let mut points: Vec<_> = (0..members.len()).flat_map(|at| (0..50).map(move |i| point(at, i))).collect();
    points.sort_unstable();
    let start = points.iter().position(|&(point, _)| point >= hash).unwrap_or(0);
    points.rotate_left(start);
    let mut order = Vec::new();
    for (_, Reverse(at)) in points {
        if !order.contains(&members[at].name()) {
            order.push(members[at].name());
        }
    }
    order
}

fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), shift))
}
