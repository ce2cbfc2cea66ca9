//! Who keeps copies of other nodes' keys, and which.

use std::collections::HashMap;
use std::sync::Arc;

use groupcache_core::{
    Call, Effects, GroupConfig, Instant, Intent, LoadRequest, Member, Outcome as Told, PeerId, Placement,
    Ring, RingEpoch, Shard, ShardConfig,
};

use super::NODES;
use super::stores::{CHARGE, GROUP, Kind, NOW, Store, hashed, load_here, text, value};
use crate::compare::Outcome;
use crate::compare::random::{Random, mix};

/// How a get was served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    /// The owner that was asked.
    pub(super) hop: Option<usize>,
    /// Whether the origin was.
    pub(super) loaded: bool,
}

/// A fleet.
pub(super) trait Scheme {
    /// A get of `id` at `node`.
    fn get(&mut self, node: usize, id: u32) -> Outcome<Served>;
}

/// The core's shards, one a node.
pub(super) struct Ours {
    shards: Vec<Shard<()>>,
    out: Effects<()>,
}

impl Ours {
    pub(super) fn new(entries: usize) -> Outcome<Self> {
        let members = (0..NODES as u32).map(|id| Member::new(PeerId::new(id), format!("10.0.0.{id}:6324")));
        let ring = Arc::new(Ring::new(Placement::default(), RingEpoch::new(1), members.collect())?);
        let shard = |node: usize| -> Outcome<Shard<()>> {
            let mut config = ShardConfig::default();
            config.budget = entries as u64 * CHARGE;
            config.negative_per_mille = 0;
            let me = PeerId::new(node as u32);
            let mut shard = Shard::new(0, config, me, Arc::clone(&ring), mix(node as u64), NOW)?;
            shard.add_group(GROUP, GroupConfig::default())?;
            Ok(shard)
        };
        Ok(Self { shards: (0..NODES).map(shard).collect::<Outcome<_>>()?, out: Effects::new() })
    }
}

impl Scheme for Ours {
    fn get(&mut self, node: usize, id: u32) -> Outcome<Served> {
        let text = text(id);
        let key = hashed(id, &text);
        if self.shards[node].get(NOW, &key).is_some() {
            return Ok(Served { hop: None, loaded: false });
        }
        let request = LoadRequest::new(key, (), Instant::from_nanos(u64::MAX / 2));
        let _waits = self.shards[node].load(NOW, request, &mut self.out).map_err(|refused| refused.error)?;
        let told = || Told::Value { value: value(), ttl: None };
        let mut served = Served { hop: None, loaded: false };
        for intent in self.out.drain_intents().collect::<Vec<_>>() {
            if let Intent::Load { flight, attempt, .. } = intent {
                served.loaded = true;
                self.shards[node].handle_loaded(NOW, flight, attempt, told(), &mut self.out);
            }
        }
        for call in self.out.drain_calls().collect::<Vec<_>>() {
            if let Call::Fetch { peer, item } = call {
                let owner = peer.index() as usize;
                served.hop = Some(owner);
                if self.shards[owner].get(NOW, &key).is_none() {
                    served.loaded = true;
                    load_here(&mut self.shards[owner], id, &mut self.out)?;
                }
                self.shards[node].handle_fetched(NOW, item.flight, item.attempt, told(), &mut self.out);
            }
        }
        self.out.drain_completions().for_each(drop);
        self.out.free_evicted();
        Ok(served)
    }
}

/// Which fetched values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Never,
    Always,
    OneInTen,
    /// Those that the node has asked for so many times lately.
    AtLeast(u32),
    /// Those that the node asks for at least as often as for the copy that would have to go. Rates are kept for 1,024 candidates, and fade within 25,000
    /// gets: 5 s at 5,000 gets a second.
    MostAsked,
}

/// An emulated fleet.
pub(super) struct Fleet {
    nodes: Vec<Node>,
    admission: Admission,
    random: Random,
}

struct Node {
    main: Box<dyn Store>,
    hot: Box<dyn Store>,
    lately: Lately,
    rates: Rates,
    /// Copies that there is room for.
    room: usize,
}

/// How often ids were asked for, halved from time to time.
#[derive(Debug, Default)]
struct Lately {
    counts: HashMap<u32, u32>,
    noted: usize,
}

impl Lately {
    /// Counts `id` and answers its count. After `period` of these, old ones count half.
    fn note(&mut self, id: u32, period: usize) -> u32 {
        let count = self.counts.entry(id).or_default();
        *count += 1;
        let count = *count;
        self.noted += 1;
        if self.noted >= period {
            self.noted = 0;
            self.counts.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
        count
    }
}

/// Rates that fade, of copies and of candidates.
struct Rates {
    candidates: Box<dyn Store>,
    /// The rate as it was at a get's number.
    rates: HashMap<u32, (f64, f64)>,
    gets: f64,
}

const CANDIDATES: usize = 1024;
const FADE: f64 = 25_000.0;

impl Rates {
    fn new() -> Outcome<Self> {
        Ok(Self { candidates: Kind::Lru.store(CANDIDATES)?, rates: HashMap::new(), gets: 0.0 })
    }

    fn of(&self, id: u32) -> f64 {
        self.rates.get(&id).map_or(0.0, |&(rate, at)| rate * ((at - self.gets) / FADE).exp())
    }

    fn note(&mut self, id: u32) -> f64 {
        let rate = self.of(id) + 1.0;
        self.rates.insert(id, (rate, self.gets));
        rate
    }

    /// The rate of what is no copy, with this get. Who is no candidate begins anew.
    fn note_candidate(&mut self, id: u32) -> Outcome<f64> {
        if !self.candidates.get(id) {
            self.candidates.put(id)?;
            self.rates.remove(&id);
        }
        Ok(self.note(id))
    }
}

impl Fleet {
    pub(super) fn new(entries: usize, main: Kind, hot: Kind, admission: Admission) -> Outcome<Self> {
        let copies = if admission == Admission::Never { 0 } else { entries / 8 };
        let node = || -> Outcome<Node> {
            Ok(Node {
                main: main.store(entries - copies)?,
                hot: hot.store(copies.max(1))?,
                lately: Lately::default(),
                rates: Rates::new()?,
                room: copies,
            })
        };
        let nodes = (0..NODES).map(|_| node()).collect::<Outcome<_>>()?;
        Ok(Self { nodes, admission, random: Random::new(5) })
    }
}

impl Scheme for Fleet {
    fn get(&mut self, at: usize, id: u32) -> Outcome<Served> {
        self.nodes[at].rates.gets += 1.0;
        let owner = (mix(u64::from(id) << 1 | 1) % NODES as u64) as usize;
        if owner == at {
            let held = self.nodes[at].main.get(id);
            if !held {
                self.nodes[at].main.put(id)?;
            }
            return Ok(Served { hop: None, loaded: !held });
        }
        if self.admission != Admission::Never && self.nodes[at].hot.get(id) {
            if self.admission == Admission::MostAsked {
                self.nodes[at].rates.note(id);
            }
            return Ok(Served { hop: None, loaded: false });
        }
        let held = self.nodes[owner].main.get(id);
        if !held {
            self.nodes[owner].main.put(id)?;
        }
        if self.nodes[at].admits(self.admission, id, &mut self.random)? {
            self.nodes[at].hot.put(id)?;
        }
        Ok(Served { hop: Some(owner), loaded: !held })
    }
}

impl Node {
    fn admits(&mut self, admission: Admission, id: u32, random: &mut Random) -> Outcome<bool> {
        Ok(match admission {
            Admission::Never => false,
            Admission::Always => true,
            Admission::OneInTen => random.below(10) == 0,
            Admission::AtLeast(times) => self.lately.note(id, 20 * self.room) >= times,
            Admission::MostAsked => {
                let rate = self.rates.note_candidate(id)?;
                self.hot.next_out().is_none_or(|out| rate >= self.rates.of(out))
            }
        })
    }
}
