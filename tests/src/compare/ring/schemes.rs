//! Placement schemes: ours, and those of others, as their papers or sources have them. Nodes are numbered in the order in which they are listed.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::SocketAddr;

use groupcache_core::{Member, PeerId, Placement, Ring, RingEpoch};
use md5::{Digest, Md5};
use pingora_ketama::{Bucket, Continuum};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::super::Outcome;
use super::super::random::mix;

/// A built ring.
pub(super) trait Placed {
    /// The number of the owner of a key.
    fn owner(&self, key: &[u8]) -> usize;

    /// Looks every key up: the loop is in here so that a look-up is not called through a table.
    fn owners(&self, keys: &[String]);

    /// The largest part of all hashes that a node owns, over the mean part, where the scheme can say: without the chance that keys add.
    fn exact_peak(&self) -> Option<f64> {
        None
    }

    /// The ring of other nodes, made from this one where the scheme can.
    fn rebuild(&self, names: &[String]) -> Outcome<Box<dyn Placed>>;
}

/// A scheme by name.
#[derive(Clone, Copy)]
pub(super) struct Scheme {
    pub(super) name: &'static str,
    pub(super) build: fn(&[String]) -> Outcome<Box<dyn Placed>>,
}

pub(super) const SLOTS: Scheme =
    Scheme { name: "groupcache slots/1", build: |names| ours(Placement::Slots, names) };
pub(super) const SLOTS_LARGE: Scheme =
    Scheme { name: "groupcache slots/1/18", build: |names| ours(Placement::SlotsLarge, names) };
pub(super) const SLOTS_HUGE: Scheme =
    Scheme { name: "groupcache slots/1/20", build: |names| ours(Placement::SlotsHuge, names) };

pub(super) const SCHEMES: &[Scheme] = &[
    SLOTS,
    SLOTS_LARGE,
    SLOTS_HUGE,
    Scheme { name: "groupcache go-seed (crc32 x 50)", build: |names| ours(Placement::GoSeed, names) },
    Scheme { name: "golang/groupcache, crc32 x 50", build: |names| boxed(Points::crc32(names)) },
    Scheme { name: "fnv1-64 of md5 x 512", build: |names| boxed(Points::fnv1(names)) },
    Scheme { name: "ketama (pingora)", build: |names| boxed(Ketama::new(names)?) },
    Scheme { name: "rendezvous, linear", build: |names| boxed(Rendezvous::new(names)) },
    Scheme { name: "jump", build: |names| boxed(Jump { nodes: names.len() }) },
    Scheme { name: "Maglev, 65537", build: |names| boxed(Maglev::new(names)) },
];

/// What the schemes of others have in common: they are built anew.
trait Simple: Sized + 'static {
    fn build(names: &[String]) -> Outcome<Self>;
    fn find(&self, key: &[u8]) -> usize;
}

impl<S: Simple> Placed for S {
    fn owner(&self, key: &[u8]) -> usize {
        self.find(key)
    }

    fn owners(&self, keys: &[String]) {
        for key in keys {
            black_box(self.find(key.as_bytes()));
        }
    }

    fn rebuild(&self, names: &[String]) -> Outcome<Box<dyn Placed>> {
        boxed(S::build(names)?)
    }
}

fn boxed(placed: impl Placed + 'static) -> Outcome<Box<dyn Placed>> {
    Ok(Box::new(placed))
}

fn ours(placement: Placement, names: &[String]) -> Outcome<Box<dyn Placed>> {
    boxed(Ours(Ring::new(placement, RingEpoch::new(1), members(names))?))
}

struct Ours(Ring);

fn members(names: &[String]) -> Vec<Member> {
    names.iter().zip(0..).map(|(name, id)| Member::new(PeerId::new(id), name.as_str())).collect()
}

impl Placed for Ours {
    fn owner(&self, key: &[u8]) -> usize {
        self.0.owner(key).map_or(usize::MAX, |owner| owner.id().index() as usize)
    }

    fn owners(&self, keys: &[String]) {
        for key in keys {
            black_box(self.0.owner(key.as_bytes()).map(Member::id));
        }
    }

    fn exact_peak(&self) -> Option<f64> {
        let shares = self.0.members().iter().map(|member| self.0.share(member.id()));
        Some(shares.fold(0.0, f64::max) * self.0.len() as f64)
    }

    fn rebuild(&self, names: &[String]) -> Outcome<Box<dyn Placed>> {
        boxed(Self(self.0.rebuild(RingEpoch::new(2), members(names))?))
    }
}

/// A ring of points: the first point at or after the key's hash, wrapping, owns it.
struct Points {
    points: Vec<(u64, u32)>,
    hash: fn(&[u8]) -> u64,
    build: fn(&[String]) -> Self,
}

impl Points {
    /// As golang/groupcache has it: the point's number in front of the name.
    fn crc32(names: &[String]) -> Self {
        let point = |name: &str, number: u32| crc32(format!("{number}{name}").as_bytes());
        Self { points: points(names, 50, point), hash: crc32, build: Self::crc32 }
    }

    /// As groupcache-go has it, with the 512 points that it documents: of the digest in hexadecimal digits.
    fn fnv1(names: &[String]) -> Self {
        let point = |name: &str, number: u32| {
            let digest = Md5::digest(format!("{number}{name}"));
            fnv1(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().as_bytes())
        };
        Self { points: points(names, 512, point), hash: fnv1, build: Self::fnv1 }
    }
}

fn points(names: &[String], each: u32, point: impl Fn(&str, u32) -> u64) -> Vec<(u64, u32)> {
    let of = |(node, name): (u32, &String)| {
        (0..each).map(|number| (point(name, number), node)).collect::<Vec<_>>()
    };
    let mut points: Vec<_> = (0..).zip(names).flat_map(of).collect();
    points.sort_unstable();
    points
}

impl Placed for Points {
    fn owner(&self, key: &[u8]) -> usize {
        let hash = (self.hash)(key);
        let at = self.points.partition_point(|&(point, _)| point < hash);
        self.points[if at == self.points.len() { 0 } else { at }].1 as usize
    }

    fn owners(&self, keys: &[String]) {
        for key in keys {
            black_box(self.owner(key.as_bytes()));
        }
    }

    fn rebuild(&self, names: &[String]) -> Outcome<Box<dyn Placed>> {
        boxed((self.build)(names))
    }
}

fn crc32(bytes: &[u8]) -> u64 {
    u64::from(crc32fast::hash(bytes))
}

fn fnv1(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte))
}

struct Ketama {
    continuum: Continuum,
    numbers: HashMap<SocketAddr, usize>,
}

impl Ketama {
    fn new(names: &[String]) -> Outcome<Self> {
        let addresses = names.iter().map(|name| name.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;
        let buckets: Vec<Bucket> = addresses.iter().map(|&address| Bucket::new(address, 1)).collect();
        let numbers = addresses.into_iter().zip(0..).collect();
        Ok(Self { continuum: Continuum::new(&buckets), numbers })
    }
}

impl Placed for Ketama {
    fn owner(&self, key: &[u8]) -> usize {
        self.continuum.node(key).and_then(|address| self.numbers.get(&address).copied()).unwrap_or(usize::MAX)
    }

    fn owners(&self, keys: &[String]) {
        for key in keys {
            black_box(self.continuum.node(key.as_bytes()));
        }
    }

    fn rebuild(&self, names: &[String]) -> Outcome<Box<dyn Placed>> {
        boxed(Self::new(names)?)
    }
}

/// Thaler and Ravishankar's, over keys.
struct Rendezvous(Vec<u64>);

impl Rendezvous {
    fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| xxh3_64(name.as_bytes())).collect())
    }
}

impl Simple for Rendezvous {
    fn build(names: &[String]) -> Outcome<Self> {
        Ok(Self::new(names))
    }

    fn find(&self, key: &[u8]) -> usize {
        let key = xxh3_64(key);
        let score = |&(_, node): &(usize, &u64)| mix(key ^ node);
        self.0.iter().enumerate().max_by_key(score).map_or(usize::MAX, |(at, _)| at)
    }
}

/// Lamping and Veach, "A fast, minimal memory, consistent hash algorithm".
struct Jump {
    nodes: usize,
}

impl Simple for Jump {
    fn build(names: &[String]) -> Outcome<Self> {
        Ok(Self { nodes: names.len() })
    }

    fn find(&self, key: &[u8]) -> usize {
        let (mut key, mut bucket, mut next) = (xxh3_64(key), 0, 0_i64);
        while next < self.nodes as i64 {
            bucket = next;
            key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
            next = ((bucket + 1) as f64 * ((1_u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as i64;
        }
        bucket as usize
    }
}

/// Eisenbud and others, "Maglev: a fast and reliable software network load balancer".
struct Maglev(Vec<u32>);

const MAGLEV_SIZE: usize = 65_537;

impl Maglev {
    fn new(names: &[String]) -> Self {
        let place = |name: &String, seed| xxh3_64_with_seed(name.as_bytes(), seed) as usize;
        let walks: Vec<(usize, usize)> = names
            .iter()
            .map(|name| (place(name, 1) % MAGLEV_SIZE, place(name, 2) % (MAGLEV_SIZE - 1) + 1))
            .collect();
        let mut table = vec![u32::MAX; MAGLEV_SIZE];
        let (mut next, mut filled) = (vec![0_usize; names.len()], 0);
        while filled < MAGLEV_SIZE {
            for (node, &(offset, skip)) in walks.iter().enumerate() {
                let mut at = (offset + next[node] * skip) % MAGLEV_SIZE;
                while table[at] != u32::MAX {
                    next[node] += 1;
                    at = (offset + next[node] * skip) % MAGLEV_SIZE;
                }
                table[at] = node as u32;
                next[node] += 1;
                filled += 1;
                if filled == MAGLEV_SIZE {
                    break;
                }
            }
        }
        Self(table)
    }
}

impl Simple for Maglev {
    fn build(names: &[String]) -> Outcome<Self> {
        Ok(Self::new(names))
    }

    fn find(&self, key: &[u8]) -> usize {
        self.0[(xxh3_64(key) % MAGLEV_SIZE as u64) as usize] as usize
    }
}
