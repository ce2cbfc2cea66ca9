//! A shard under any sequence of calls, against a model of its loads and waiters.

mod foreign;
mod model;
mod turns;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use groupcache_core::{
    Answer, Attempt, Disposition, Effects, Eviction, Failure, FailureKind, Fetched, FlightId, GroupId,
    HashedKey, Instant, Load, LoadError, LoadRequest, MAX_META, Member, OnAbandoned, Outcome, PeerId,
    Placement, Refused, Ring, RingEpoch, Route, Shard, ShardConfig, ShardStats, Value,
};

use self::model::{Flight, KeyId, Model, began, value_of};

/// Each waiter is completed once with what its load came to, or given back; what is found is of the key that was asked for, and of a load that
/// began after whatever was forgotten last, though it was revalidated since; loads, waiters and deadlines are exactly the model's; in the end nothing is left.
pub fn shard(data: &[u8]) {
    run_shard(data);
}

/// As [`shard`]; answers how many operations it came to.
pub fn run_shard(data: &[u8]) -> u64 {
    let mut bytes = Unstructured::new(data);
    let Ok(mut bench) = Bench::new(&mut bytes) else { return 0 };
    while !bytes.is_empty() && bench.step(&mut bytes).is_ok() {}
    let operations = bench.step - 1;
    bench.drain();
    operations
}

const ME: PeerId = PeerId::new(0);
/// Most operations meet on few keys.
const KEYS: [&[u8]; 16] = [
    b"a",
    b"a",
    b"a",
    b"a",
    b"a",
    b"a",
    b"b",
    b"b",
    b"b",
    b"b",
    b"aa",
    b"aa",
    b"c",
    b"longest!",
    b"",
    b"too long!",
];

struct Bench {
    shard: Shard<u32>,
    out: Effects<u32>,
    model: Model,
    config: ShardConfig,
    /// How many bits of the key's table hash differ between keys.
    hash_mask: u64,
    now: Instant,
    step: u64,
    rings: u32,
}

/// What a call asked for.
#[derive(Debug, PartialEq)]
enum Ask {
    Load(FlightId, Attempt, Option<Value>),
    Fetch(FlightId, Attempt, PeerId),
    Abort(FlightId, Option<PeerId>),
}

impl Bench {
    fn new(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let mut config = ShardConfig::default();
        config.budget = *bytes.choose(&[1, 700, 3_000, 1 << 20, 1 << 20])?;
        config.eviction = *bytes.choose(&[Eviction::B2, Eviction::B2Adaptive])?;
        config.hot_per_mille = *bytes.choose(&[0, 125, 500, 900])?;
        config.negative_per_mille = *bytes.choose(&[0, 15, 99])?;
        config.max_key_len = NonZeroUsize::new(8).expect("above zero");
        config.max_value_len = NonZeroUsize::new(*bytes.choose(&[20, 300, 300])?).expect("above zero");
        config.max_flights = NonZeroU32::new(*bytes.choose(&[1, 2, 6, 64, 64])?).expect("above zero");
        config.max_waiters = NonZeroU32::new(*bytes.choose(&[1, 3, 9, 64, 64])?).expect("above zero");
        config.work_per_call = NonZeroU32::new(*bytes.choose(&[1, 2, 256])?).expect("above zero");
        config.load_timeout = Duration::from_millis(*bytes.choose(&[1, 1_000, 30_000, 30_000])?);
        config.deadline_margin = Duration::from_millis(*bytes.choose(&[0, 20, 5_000])?);
        config.peer_attempts = bytes.int_in_range(0..=3)?;
        config.hot_ttl = Duration::from_millis(*bytes.choose(&[0, 1_000, 30_000])?);
        config.on_abandoned = *bytes.choose(&[OnAbandoned::Finish, OnAbandoned::Abort])?;
        let hash_mask = *bytes.choose(&[0, 1, u64::MAX])?;
        let now = Instant::from_nanos(*bytes.choose(&[0, 1 << 40, u64::MAX - (1 << 36)])?);
        let shard = Shard::new(5, config.clone(), ME, ring(2), bytes.arbitrary()?, now).expect("in range");
        let (out, model) = (Effects::new(), Model::default());
        let mut bench = Self { shard, out, model, config, hash_mask, now, step: 1, rings: 2 };
        bench.add_group(bytes, 0)?;
        bench.add_group(bytes, 1)?;
        Ok(bench)
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        self.step += 1;
        match bytes.int_in_range(0..=31)? {
            0..=10 => self.load(bytes)?,
            11..=18 => self.answer(bytes)?,
            19..=20 => self.cancel(bytes)?,
            21..=22 => {
                let key = key(bytes)?;
                self.shard.invalidate(self.now, &hashed(&key, self.hash_mask), &mut self.out);
                self.model.forget(&key, self.step);
            }
            23 => self.change_group(bytes)?,
            24 => {
                self.rings = bytes.int_in_range(0..=4)?;
                self.shard.handle_ring(self.now, ring(self.rings));
            }
            25..=26 => self.pass_time(bytes)?,
            27 => {
                self.time_out();
            }
            _ => {
                let key = key(bytes)?;
                let at = self.now.saturating_sub(Duration::from_nanos(bytes.int_in_range(0..=9)?));
                if let Some(found) = self.shard.get(at, &hashed(&key, self.hash_mask)) {
                    self.check_found(&key, &found);
                }
            }
        }
        self.check();
        Ok(())
    }

    fn check(&mut self) {
        assert!(self.out.is_empty(), "{:?}", self.out);
        self.out.free_evicted();
        self.shard.check_invariants().expect("all counts agree");
        let usage = self.shard.usage();
        assert_eq!(usage.flights as usize, self.model.flights.len());
        assert_eq!(usage.waiters as usize, self.model.tickets.len());
        self.check_groups();
    }

    /// Each group counts its own loads, and all together what the shard does.
    fn check_groups(&self) {
        let of = |group| self.shard.group_stats(GroupId::new(group)).expect("a group that was made");
        for (number, group) in (0..).zip(&self.model.groups) {
            let flights = self.model.flights.values().filter(|flight| flight.key.0 == number).count();
            let stats = of(number);
            assert_eq!((stats.flights, stats.counts.misses), (flights as u64, group.begun), "group {number}");
        }
        let (mut sum, all) = (of(0), self.shard.stats());
        sum.add(&of(1));
        let counted = |stats: &ShardStats| {
            [stats.misses, stats.loads, stats.main_hits, stats.hot_hits, stats.evictions, stats.cancelled]
        };
        assert_eq!(counted(&sum.counts), counted(&all));
        assert_eq!(sum.entries, self.shard.usage().entries);
    }

    fn load(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let key = key(bytes)?;
        let route = *bytes.choose(&[Route::Cluster, Route::LocalOnly])?;
        let deadline = match bytes.int_in_range(0..=15)? {
            0 => self.now,
            1 => Instant::MAX,
            _ => self.now.saturating_add(Duration::from_millis(bytes.int_in_range(1..=40_000)?)),
        };
        let waiter = self.step as u32;
        // The shard has seen the present already: an earlier time is clamped to it.
        self.shard.handle_ring(self.now, ring(self.rings));
        let now = self.now.saturating_sub(Duration::from_secs(u64::from(bytes.ratio(1, 8)?)));
        let before = self.shard.usage();
        let request = LoadRequest::new(hashed(&key, self.hash_mask), waiter, deadline).route(route);
        match self.shard.load(now, request, &mut self.out) {
            Ok(Load::Ready { answer, waiter: back }) => {
                assert_eq!(back, waiter);
                self.check_ready(&key, route, &answer);
            }
            Err(Refused { error, waiter: back, .. }) => {
                assert_eq!((back, self.shard.usage()), (waiter, before));
                self.check_refusal(&key, deadline, &error);
            }
            Ok(Load::Wait(ticket)) => {
                let flight = match self.model.joinable(&key, route == Route::LocalOnly) {
                    Some(flight) => flight,
                    None => self.began(&key, route, deadline),
                };
                self.model.join(flight, waiter, ticket, deadline);
            }
        }
        Ok(())
    }

    /// The load that a call must have begun.
    fn began(&mut self, key: &KeyId, route: Route, deadline: Instant) -> FlightId {
        let owner = ring(self.rings).owner(&key.1).map(Member::id).filter(|&owner| owner != ME);
        let (id, attempt, peer, stale) = match *self.asked() {
            [Ask::Load(id, attempt, ref stale)] => (id, attempt, None, stale.clone()),
            [Ask::Fetch(id, attempt, peer)] => (id, attempt, Some(peer), None),
            ref other => panic!("a load asks once, not {other:?}"),
        };
        self.check_offered(key, stale.as_ref());
        assert_eq!(peer, owner.filter(|_| route == Route::Cluster), "the wrong source is asked");
        let latest = self.now.saturating_add(self.config.load_timeout);
        let flight = Flight {
            key: key.clone(),
            began: self.step,
            peer,
            attempts: vec![attempt],
            fenced: false,
            epoch: self.model.groups[key.0 as usize].epoch,
            deadline: deadline.min(latest),
            latest,
            waiters: Vec::new(),
            stale,
        };
        self.model.begin(id, flight);
        id
    }

    fn check_refusal(&self, key: &KeyId, deadline: Instant, error: &LoadError) {
        let (flights, waiters) = (self.model.flights.len(), self.model.tickets.len());
        let holds = match *error {
            LoadError::EmptyKey => key.1.is_empty(),
            LoadError::KeyTooLong { len, max } => len == key.1.len() && len > max,
            LoadError::NoSuchGroup => self.model.groups.get(key.0 as usize).is_none_or(|group| !group.live),
            LoadError::DeadlinePassed => deadline <= self.now,
            LoadError::FlightsFull { max } => flights == max as usize,
            LoadError::WaitersFull { max } => waiters == max as usize,
            LoadError::GroupLoadsFull { max } => {
                self.model.flights.values().filter(|flight| flight.key.0 == key.0).count() >= max as usize
            }
            _ => false,
        };
        assert!(holds, "refused with {error:?}");
    }

    /// What a load came to at once: what is there, or what has expired not long ago, and then its load is in progress where limits let it.
    fn check_ready(&mut self, key: &KeyId, route: Route, answer: &Answer) {
        let Some(stale) = answer.as_ref().ok().filter(|fetched| !lives(fetched.expires, self.now)) else {
            return self.check_found(key, answer);
        };
        self.check_kept(key, stale);
        assert!(!stale.value.is_fresh_only(), "an old value of one that must be fresh");
        let grace = self.model.groups[key.0 as usize].config.stale_while_revalidate;
        assert!(self.now < stale.expires.saturating_add(grace), "a value that is too old");
        if !self.out.is_empty() {
            assert_eq!(self.model.joinable(key, route == Route::LocalOnly), None, "two loads of a key");
            self.began(key, route, Instant::MAX);
        }
    }

    fn check_found(&self, key: &KeyId, found: &Answer) {
        match found {
            Ok(fetched) => {
                self.check_kept(key, fetched);
                assert!(lives(fetched.expires, self.now), "a value that has expired");
            }
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::NotFound);
                assert!(self.model.is_missing(key, self.now), "a key that exists, for all that is known");
                assert!(self.config.negative_per_mille > 0, "a place that there is not");
            }
        }
    }

    /// A value comes from a load behind which nothing was forgotten, from who has the last word on it, and is kept no longer than it may be.
    pub(super) fn check_kept(&self, key: &KeyId, fetched: &Fetched) {
        let until = self.model.kept_until(key, began(key, &fetched.value));
        let until = until.expect("a value of before it was forgotten, or one that must not be kept");
        assert!(fetched.expires <= until, "{:?} is kept until {:?}", until, fetched.expires);
    }

    /// What a load takes to the origin to be revalidated has expired not too long ago, and was not forgotten.
    pub(super) fn check_offered(&self, key: &KeyId, stale: Option<&Value>) {
        let Some(stale) = stale else { return };
        let until = self.model.kept_until(key, began(key, stale)).expect("a value that may be held");
        let grace = self.model.groups[key.0 as usize].config.revalidate_for;
        assert!(self.now < until.saturating_add(grace), "a value that is too old to be revalidated");
    }

    /// Hands in a result: of a load in progress or of one that is over, of its attempt or of an earlier one, from where it was asked or not.
    fn answer(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        if self.model.flights.is_empty() {
            return Ok(());
        }
        if bytes.ratio(1, 16)? {
            self.answer_foreign(bytes)?;
        }
        let (id, flight) = if bytes.ratio(1, 6)? && !self.model.over.is_empty() {
            bytes.choose(&self.model.over)?.clone()
        } else {
            let index = bytes.choose_index(self.model.flights.len())?;
            let (&id, flight) = self.model.flights.iter().nth(index).expect("an index in range");
            (id, flight.clone())
        };
        let attempt = if bytes.ratio(1, 4)? { *bytes.choose(&flight.attempts)? } else { flight.attempt() };
        let outcome = self.outcome(bytes, &flight)?;
        let from_peer = flight.peer.is_some() != bytes.ratio(1, 16)?;
        let (now, given) = (self.now, outcome.clone());
        self.note_answer(&flight, attempt, from_peer, &outcome);
        let disposition = if from_peer {
            self.shard.handle_fetched(now, id, attempt, outcome, &mut self.out)
        } else {
            self.shard.handle_loaded(now, id, attempt, outcome, &mut self.out)
        };
        let is_current = attempt == flight.attempt();
        let counts = is_current || matches!(given, Outcome::Value { .. });
        let expected = self.model.flights.contains_key(&id) && counts;
        assert_eq!(disposition != Disposition::Stale, expected, "{disposition:?}");
        match disposition {
            Disposition::Stale => {}
            Disposition::Retrying => self.check_retry(id, &flight),
            Disposition::Applied => {
                let asked = self.asked();
                let aborts: &[Ask] = if is_current { &[] } else { &[Ask::Abort(id, flight.peer)] };
                assert_eq!(asked, aborts);
                self.check_served(id, &flight, &given);
            }
        }
        Ok(())
    }

    fn outcome(&self, bytes: &mut Unstructured<'_>, flight: &Flight) -> Result<Outcome> {
        Ok(match bytes.int_in_range(0..=7)? {
            0 => Outcome::Unreachable(None),
            1 => Outcome::Unreachable(Some(Arc::new(Failure::new(FailureKind::Overloaded)))),
            2 => Outcome::Failed(Failure::new(FailureKind::NotFound)),
            3 => Outcome::Failed(Failure::new(FailureKind::Deadline)),
            4 => Outcome::Failed(Failure::new(FailureKind::OriginFailed)),
            _ => {
                let ttl = [None, Some(Duration::ZERO), Some(Duration::from_millis(900)), Some(Duration::MAX)];
                let ttl = *bytes.choose(&ttl)?;
                if let Some(stale) = flight.stale.as_ref().filter(|_| flight.began.is_multiple_of(2)) {
                    return Ok(Outcome::Value { value: stale.clone(), ttl });
                }
                let value = value_of(&flight.key, flight.began, *bytes.choose(&[0, 0, 30, 300, 301])?);
                let meta = &[7; MAX_META][..*bytes.choose(&[0, 0, 0, 1, 300])?];
                let value = Value::with_meta(&value, meta).expect("not too much metadata");
                Outcome::Value { value: if bytes.ratio(1, 4)? { value.fresh_only() } else { value }, ttl }
            }
        })
    }
}

fn key(bytes: &mut Unstructured<'_>) -> Result<KeyId> {
    let group = *bytes.choose(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2])?;
    if bytes.ratio(1, 10)? {
        return Ok((group, bytes.int_in_range(0..=99)?.to_string().into_bytes()));
    }
    Ok((group, bytes.choose(&KEYS)?.to_vec()))
}

/// Whether what expires then is there now. What does not expire is there at the end of time too.
fn lives(expires: Instant, now: Instant) -> bool {
    expires == Instant::MAX || expires > now
}

/// The key with a table hash of which only the bits of `mask` count: few of them force collisions.
fn hashed(key: &KeyId, mask: u64) -> HashedKey<'_> {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = key.1.iter().fold(0xcbf2_9ce4_8422_2325 ^ u64::from(key.0), mix).rotate_left(31);
    HashedKey::new(GroupId::new(key.0), &key.1, hash & mask)
}

/// A ring of up to four members; with one, this node is alone.
fn ring(members: u32) -> Arc<Ring> {
    static RINGS: OnceLock<Vec<Arc<Ring>>> = OnceLock::new();
    let build = |count| {
        let members = (0..count).map(|id| Member::new(PeerId::new(id), format!("node-{id}:1"))).collect();
        Arc::new(Ring::new(Placement::Slots, RingEpoch::new(1), members).expect("members that differ"))
    };
    Arc::clone(&RINGS.get_or_init(|| (0..5).map(build).collect())[members as usize])
}
