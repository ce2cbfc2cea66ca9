//! A link under any sequence of calls, against a model of what it was given and has sent.

mod breaker;

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use groupcache_core::{
    Batch, BatchEnd, BatchId, Call, DialId, Disposition, Effects, Failure, FailureKind, FetchItem, FlightId,
    GroupConfig, GroupId, HashedKey, Instant, Intent, Key, Link, LinkConfig, LinkRefused, LoadRequest,
    Member, Outcome, PeerId, Placement, Protocol, Ring, RingEpoch, Shard, ShardConfig, Value, Wake,
};

use self::breaker::Breaker;

/// Each fetch that was taken is settled once, by its deadline, or cancelled; batches keep to their limits and windows; a refusal changes nothing;
/// a wake is never for nothing; what has room is sent; the breaker opens and half-opens when it should; behind a close nothing is left. A peer that
/// leaves in order, by the ring or by its connection, keeps its promises: what is in flight is not settled by that, nor by anything that becomes of
/// another connection; and the link closes as soon as nothing is in flight. A batch that is topped up takes along all that waits, within its limits, and
/// none is formed beside it until it was; a link on demand dials when it is first asked, and once.
pub fn link(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    if let Ok(mut bench) = Bench::new(&mut bytes) {
        while !bytes.is_empty() && bench.step(&mut bytes).is_ok() {}
        bench.close();
    }
}

const PEER: PeerId = PeerId::new(1);

struct Bench {
    link: Link,
    out: Effects<()>,
    config: LinkConfig,
    now: Instant,
    /// Fetches that were taken and are neither settled nor cancelled, with their deadlines.
    taken: BTreeMap<FlightId, Instant>,
    open: BTreeMap<BatchId, Sent>,
    over: Vec<BatchId>,
    /// All that were ever dialled; the one whose result is awaited; the connection that takes calls.
    dials: Vec<DialId>,
    awaited: Option<DialId>,
    connection: Option<DialId>,
    /// Batches that the link wants topped up before they are sent, as they were formed.
    unsent: BTreeMap<BatchId, Batch>,
    /// Whether the link dials only when it is asked, and whether it has yet to.
    on_demand: bool,
    is_idle: bool,
    /// Whether the peer has left the ring.
    left: bool,
    closed: bool,
    generation: u32,
    breaker: Breaker,
}

/// A batch that was sent: its flights by index, `None` once settled.
struct Sent {
    flights: Vec<Option<FlightId>>,
    dial: DialId,
    protocol: Protocol,
    accepted: bool,
}

impl Bench {
    fn new(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let limit = |n: u32| NonZeroU32::new(n).expect("above zero");
        let mut config = LinkConfig::default();
        config.max_batch_keys = limit(*bytes.choose(&[1, 2, 5, 256])?);
        config.max_batch_bytes = NonZeroUsize::new(*bytes.choose(&[1, 8, 1 << 18])?).expect("above zero");
        config.window = limit(*bytes.choose(&[1, 2, 9])?);
        config.single_window = limit(*bytes.choose(&[1, 3, 128])?);
        config.max_open_batches = limit(*bytes.choose(&[1, 3, 1024])?);
        config.max_queue = limit(*bytes.choose(&[1, 4, 8192])?);
        config.failure_threshold = limit(*bytes.choose(&[1, 2, 5])?);
        config.connect_timeout = Duration::from_millis(*bytes.choose(&[1, 500])?);
        config.top_up = bytes.ratio(1, 3)?;
        let now = Instant::from_nanos(*bytes.choose(&[0, 1 << 40, u64::MAX - (1 << 50)])?);
        let on_demand = bytes.ratio(1, 4)?;
        let mut out = Effects::new();
        let link = new_link(0, &config, bytes.arbitrary()?, now, on_demand, &mut out);
        let mut bench = Self {
            link,
            out,
            unsent: BTreeMap::new(),
            on_demand,
            is_idle: on_demand,
            config,
            now,
            taken: BTreeMap::new(),
            open: BTreeMap::new(),
            over: Vec::new(),
            dials: Vec::new(),
            awaited: None,
            connection: None,
            left: false,
            closed: false,
            generation: 0,
            breaker: Breaker::new(),
        };
        bench.check();
        if bytes.ratio(3, 4)? {
            bench.want();
            bench.connected(bench.dials[0], Protocol::Batched);
        }
        Ok(bench)
    }

    /// The peer is back after its link was closed: it has a new one.
    fn renew(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        self.generation += 1;
        let seed = bytes.arbitrary()?;
        self.link = new_link(self.generation, &self.config, seed, self.now, self.on_demand, &mut self.out);
        (self.left, self.closed, self.breaker) = (false, false, Breaker::new());
        self.is_idle = self.on_demand;
        self.check();
        Ok(())
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        if self.closed {
            self.renew(bytes)?;
        }
        let (now, out) = (self.now, &mut self.out);
        match bytes.int_in_range(0..=41)? {
            21..=24 | 31..=32 if self.dials.is_empty() => self.want(),
            0..=9 => self.fetch(bytes)?,
            10..=15 => self.reply(bytes)?,
            16..=18 => self.end_batch(bytes)?,
            19..=20 => {
                let flight = bytes.choose(supply())?.flight;
                let known = self.taken.remove(&flight).is_some();
                let disposition = self.link.cancel(now, flight, out);
                assert_eq!(disposition == Disposition::Applied, known);
                self.forget(flight);
            }
            21..=23 => {
                let protocol = *bytes.choose(&[Protocol::Batched, Protocol::Batched, Protocol::Single])?;
                let dial = self.a_dial(self.awaited, bytes)?;
                self.connected(dial, protocol);
            }
            24 => {
                let dial = self.a_dial(self.connection.or(self.awaited), bytes)?;
                self.disconnected(dial);
            }
            25 => {
                self.link.handle_seen(now, out);
            }
            26..=30 => {
                let millis = *bytes.choose(&[0, 1, 20, 49, 51, 499, 501, 2_001, 60_000])?;
                self.now = now.saturating_add(Duration::from_millis(millis));
                self.time_out();
            }
            31..=32 => {
                let dial = self.a_dial(self.connection, bytes)?;
                self.parting(dial, bytes.arbitrary()?);
            }
            33..=34 => self.leave(),
            35 => {
                let disposition = self.link.handle_returned(now, out);
                assert_eq!(disposition == Disposition::Applied, self.left);
                self.is_idle |= self.left && self.on_demand && self.connection.is_none();
                self.left = false;
            }
            36 => self.want(),
            37..=40 => self.top_up(bytes)?,
            // A step back in time, seen by a call that changes nothing else.
            _ => {
                let _ = self.link.handle_timeout(now.saturating_sub(Duration::from_secs(1)), out);
            }
        }
        self.check();
        Ok(())
    }

    /// Most often the one that matters.
    fn a_dial(&self, likely: Option<DialId>, bytes: &mut Unstructured<'_>) -> Result<DialId> {
        match likely {
            Some(dial) if bytes.ratio(4, 5)? => Ok(dial),
            _ => bytes.choose(&self.dials).copied(),
        }
    }

    /// Something is to be told to the peer.
    fn want(&mut self) {
        let disposition = self.link.want_connection(self.now, &mut self.out);
        assert_eq!(disposition == Disposition::Applied, self.is_idle);
        self.check();
        assert!(!self.is_idle);
    }

    /// Whoever sends a batch is about to: what waits goes along.
    fn top_up(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let known: Vec<BatchId> = self.unsent.keys().copied().collect();
        if known.is_empty() {
            return Ok(());
        }
        let id = *bytes.choose(&known)?;
        let mut batch = self.unsent.remove(&id).expect("it was listed");
        let (before, queued) = (batch.items.clone(), self.queued());
        let disposition = self.link.top_up(self.now, &mut batch, &mut self.out);
        let Some(sent) = self.open.get_mut(&id) else {
            assert_eq!(disposition, Disposition::Stale, "nobody wants it any more");
            assert_eq!(batch.items.len(), before.len());
            return Ok(());
        };
        assert_eq!(disposition, Disposition::Applied);
        let flights = |items: &[FetchItem]| items.iter().map(|item| item.flight).collect::<Vec<_>>();
        assert_eq!(flights(&batch.items[..before.len()]), flights(&before), "what it had stays in its place");
        let added = &batch.items[before.len()..];
        assert!(added.len() <= queued && (added.is_empty() || Some(sent.dial) == self.connection));
        assert!(added.iter().all(|item| item.deadline > self.now && self.taken.contains_key(&item.flight)));
        sent.flights.extend(added.iter().map(|item| Some(item.flight)));
        let (sizes, deadline) = (&self.config, batch.items.iter().map(|item| item.deadline).max());
        let size: usize = batch.items.iter().map(|item| item.key.as_bytes().len()).sum();
        assert!(added.is_empty() || size <= sizes.max_batch_bytes.get());
        assert!(batch.items.len() <= sizes.max_batch_keys.get() as usize);
        assert_eq!(Some(batch.deadline), deadline);
        Ok(())
    }

    fn connected(&mut self, dial: DialId, protocol: Protocol) {
        let disposition = self.link.handle_connected(self.now, dial, protocol, &mut self.out);
        assert_eq!(disposition == Disposition::Applied, self.awaited == Some(dial));
        if disposition == Disposition::Applied {
            (self.awaited, self.connection) = (None, Some(dial));
            assert!(self.link.is_connected());
        }
        self.check();
    }

    fn disconnected(&mut self, dial: DialId) {
        let kept = self.open_but_on(Some(dial));
        let disposition = self.link.handle_disconnected(self.now, dial, None, &mut self.out);
        let concerned = [self.awaited, self.connection].contains(&Some(dial));
        assert!(disposition == Disposition::Applied || kept.len() == self.open.len());
        assert!(disposition == Disposition::Stale || concerned || kept.len() < self.open.len());
        self.awaited = self.awaited.filter(|&awaited| awaited != dial);
        self.connection = self.connection.filter(|&connection| connection != dial);
        self.check();
        assert!(
            self.open.values().all(|sent| sent.dial != dial),
            "a connection takes its own batches with it"
        );
        assert!(kept.iter().all(|batch| self.open.contains_key(batch)), "and no more");
    }

    fn parting(&mut self, dial: DialId, in_order: bool) {
        let open = self.open_but_on(None);
        let disposition = match in_order {
            true => self.link.handle_draining(self.now, dial, &mut self.out),
            false => self.link.handle_lost(self.now, dial, &mut self.out),
        };
        assert_eq!(disposition == Disposition::Applied, self.connection == Some(dial));
        if disposition == Disposition::Applied {
            self.connection = None;
            assert!(!in_order || !self.link.is_up());
        }
        self.check();
        assert_eq!(self.open_but_on(None), open, "what takes no more calls may still answer");
        assert!(disposition == Disposition::Stale || self.link.is_up() || self.queued() == 0);
    }

    fn leave(&mut self) {
        let open = self.open_but_on(None);
        let disposition = self.link.handle_left(self.now, &mut self.out);
        assert_eq!(disposition == Disposition::Stale, self.left);
        (self.left, self.awaited, self.is_idle) = (true, None, false);
        self.check();
        assert_eq!(self.open_but_on(None), open, "a promise is broken by a peer that leaves the ring");
        assert_eq!(self.queued(), 0);
    }

    fn open_but_on(&self, dial: Option<DialId>) -> Vec<BatchId> {
        self.open.iter().filter(|(_, sent)| Some(sent.dial) != dial).map(|(&id, _)| id).collect()
    }

    fn fetch(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let mut item = bytes.choose(supply())?.clone();
        if self.taken.contains_key(&item.flight) {
            return Ok(()); // A flight asks one source at a time.
        }
        item.deadline = self.now.saturating_add(Duration::from_millis(bytes.int_in_range(0..=3_000)?));
        let (flight, deadline) = (item.flight, item.deadline);
        let (queued, up) = (self.queued(), self.link.is_up());
        match self.link.fetch(self.now, item, &mut self.out) {
            Ok(()) => {
                assert!(up && queued < self.config.max_queue.get() as usize);
                self.taken.insert(flight, deadline);
            }
            Err(refused) => {
                assert!(self.out.is_empty(), "a refusal changes nothing");
                match refused {
                    LinkRefused::QueueFull { max } => assert!(queued >= max as usize),
                    LinkRefused::Closed => assert!(self.left),
                    LinkRefused::Down => assert!(!self.link.is_connected()),
                    other => panic!("{other:?}"),
                }
            }
        }
        Ok(())
    }

    /// Fetches that are in no batch.
    fn queued(&self) -> usize {
        self.taken.len() - self.open.values().flat_map(|sent| &sent.flights).flatten().count()
    }

    fn a_batch(&self, bytes: &mut Unstructured<'_>) -> Result<Option<BatchId>> {
        let known: Vec<BatchId> = match bytes.ratio(1, 5)? {
            true => self.over.clone(),
            false => self.open.keys().copied().collect(),
        };
        if known.is_empty() { Ok(None) } else { bytes.choose(&known).copied().map(Some) }
    }

    fn reply(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let Some(id) = self.a_batch(bytes)? else { return Ok(()) };
        let mut replies = Vec::new();
        for _ in 0..bytes.int_in_range(0..=4)? {
            let outcome = match bytes.int_in_range(0..=2)? {
                0 => Outcome::Failed(Failure::new(FailureKind::NotFound)),
                1 => Outcome::Unreachable(None),
                _ => Outcome::Value { value: Value::from(&b"v"[..]), ttl: None },
            };
            replies.push((bytes.int_in_range(0..=5)?, outcome));
        }
        let indexes: BTreeSet<usize> = replies.iter().map(|(index, _)| *index as usize).collect();
        let disposition = self.link.handle_replies(self.now, id, replies, &mut self.out);
        assert_eq!(disposition == Disposition::Applied, self.open.contains_key(&id));
        let Some(sent) = self.open.get_mut(&id) else { return Ok(()) };
        sent.accepted = true;
        let answered = indexes.iter().filter_map(|&index| sent.flights.get_mut(index)?.take());
        let answered: Vec<FlightId> = answered.collect();
        self.check_settled_all(&answered);
        self.end_settled();
        Ok(())
    }

    fn end_batch(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let Some(id) = self.a_batch(bytes)? else { return Ok(()) };
        let ends = [BatchEnd::Complete, BatchEnd::Unimplemented, BatchEnd::Failed(None)];
        let end = bytes.choose(&ends)?.clone();
        let again = matches!(end, BatchEnd::Unimplemented);
        let disposition = self.link.handle_batch_closed(self.now, id, end, &mut self.out);
        let sent = self.open.remove(&id);
        assert_eq!(disposition == Disposition::Applied, sent.is_some());
        if let Some(sent) = sent {
            self.over.push(id);
            let left: Vec<FlightId> = sent.flights.into_iter().flatten().collect();
            if !(again && sent.protocol == Protocol::Batched) {
                self.check_settled_all(&left);
            }
        }
        Ok(())
    }

    /// These are settled now; others may be as well: an end can open the breaker, and what leaves the queue can be late.
    fn check_settled_all(&mut self, flights: &[FlightId]) {
        self.settle();
        assert!(flights.iter().all(|flight| !self.taken.contains_key(flight)));
    }

    /// Takes over what was settled.
    fn settle(&mut self) {
        for settled in self.out.drain_settled().map(|settled| settled.flight).collect::<Vec<_>>() {
            assert!(self.taken.remove(&settled).is_some(), "{settled:?} is settled twice, or was cancelled");
            self.forget(settled);
        }
    }

    fn forget(&mut self, flight: FlightId) {
        let slots = self.open.values_mut().flat_map(|sent| &mut sent.flights);
        slots.filter(|slot| **slot == Some(flight)).for_each(|slot| *slot = None);
    }

    fn end_settled(&mut self) {
        let settled = |sent: &Sent| sent.flights.iter().all(Option::is_none);
        self.over.extend(self.open.iter().filter(|(_, sent)| settled(sent)).map(|(&id, _)| id));
        self.open.retain(|_, sent| !settled(sent));
    }

    fn time_out(&mut self) {
        let wake = self.link.handle_timeout(self.now, &mut self.out);
        assert_eq!(wake, self.link.next_wake());
        assert!(!wake.is_due(self.now), "{wake:?} at {:?}", self.now);
        self.settle();
        let late = self.taken.values().find(|deadline| **deadline <= self.now);
        assert_eq!(late, None, "a fetch is not given back in time");
        let due = self.taken.values().min().map_or(Wake::Idle, |&deadline| Wake::At(deadline));
        assert_eq!(wake.earlier(due), wake, "the next fetch to give back is slept through");
    }

    /// Takes over what was settled and sent, and compares.
    fn check(&mut self) {
        self.settle();
        for intent in self.out.drain_intents().collect::<Vec<_>>() {
            match intent {
                Intent::Fetch(batch) => {
                    let size: usize = batch.items.iter().map(|item| item.key.as_bytes().len()).sum();
                    let single = batch.items.len() == 1;
                    assert!(single || size <= self.config.max_batch_bytes.get());
                    assert!(single || batch.protocol == Protocol::Batched);
                    assert!((1..=self.config.max_batch_keys.get() as usize).contains(&batch.items.len()));
                    assert_eq!(Some(batch.deadline), batch.items.iter().map(|item| item.deadline).max());
                    assert!(batch.items.iter().all(|item| item.deadline > self.now));
                    let flights = batch.items.iter().map(|item| Some(item.flight)).collect();
                    assert_eq!(Some(batch.dial), self.connection, "a batch goes out by what takes calls");
                    let sent = Sent { flights, dial: batch.dial, protocol: batch.protocol, accepted: false };
                    assert!(!self.over.contains(&batch.batch), "an id is given twice");
                    assert!(!self.awaits_top_up(), "a batch is formed beside one that is not sent");
                    assert!(self.open.insert(batch.batch, sent).is_none());
                    if self.config.top_up && batch.protocol == Protocol::Batched {
                        self.unsent.insert(batch.batch, batch);
                    }
                }
                Intent::AbortFetch { batch, .. } => {
                    let aborted = self.open.remove(&batch).expect("only an open batch is aborted");
                    let wanted = aborted.flights.iter().flatten().any(|f| self.taken.contains_key(f));
                    assert!(!wanted, "an aborted batch holds a fetch that is not settled");
                    self.over.push(batch);
                }
                Intent::Connect { peer, dial, .. } => {
                    assert!(peer == PEER && !self.left && !self.dials.contains(&dial));
                    self.dials.push(dial);
                    (self.awaited, self.is_idle) = (Some(dial), false);
                }
                Intent::Forget { peer } => {
                    assert!(peer == PEER && self.left && !self.closed);
                    (self.closed, self.connection, self.is_idle) = (true, None, false);
                }
                other => panic!("a link does not ask for {other:?}"),
            }
        }
        self.end_settled();
        assert!(self.out.is_empty());
        let sent: Vec<_> = self.open.values().flat_map(|sent| &sent.flights).flatten().collect();
        assert!(sent.iter().all(|flight| self.taken.contains_key(flight)));
        assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), sent.len(), "a fetch is in two batches");
        assert!(self.open.len() <= self.config.max_open_batches.get() as usize);
        assert_eq!(
            self.closed,
            self.left && self.open.is_empty(),
            "forgotten when nothing is in flight, not before"
        );
        assert!(!self.closed || self.taken.is_empty() && self.link.next_wake() == Wake::Idle);
        let here = self.open.values().filter(|sent| Some(sent.dial) == self.connection);
        let unaccepted = here.filter(|sent| !sent.accepted).count();
        assert!(unaccepted <= self.config.window.max(self.config.single_window).get() as usize);
        self.open.keys().for_each(|&id| assert!(self.link.wants(id)));
        self.over.iter().for_each(|&id| assert!(!self.link.wants(id)));
        self.check_room(unaccepted);
        self.breaker.watch(
            &self.link,
            &self.config,
            self.now,
            (self.connection.is_some(), self.left, !self.open.is_empty()),
        );
    }

    /// Whether what is to be fetched waits to go along with a batch.
    fn awaits_top_up(&self) -> bool {
        let is_here = |id| self.open.get(id).is_some_and(|sent| Some(sent.dial) == self.connection);
        self.unsent.keys().any(is_here)
    }

    /// Nothing waits in the queue of a peer that has room.
    fn check_room(&self, unaccepted: usize) {
        let window = self.config.window.min(self.config.single_window).get() as usize;
        let is_full = unaccepted >= window
            || self.open.len() >= self.config.max_open_batches.get() as usize
            || self.awaits_top_up();
        assert!(!self.link.is_connected() || self.queued() == 0 || is_full, "fetches wait for nothing");
    }

    fn close(&mut self) {
        self.left = true;
        self.link.close(self.now, &mut self.out);
        self.check();
        assert!(self.taken.is_empty() && self.open.is_empty(), "a close leaves nothing");
        assert_eq!(self.link.next_wake(), Wake::Idle);
        let item = supply()[0].clone();
        assert_eq!(self.link.fetch(self.now, item, &mut self.out), Err(LinkRefused::Closed));
    }
}

fn new_link(
    generation: u32,
    config: &LinkConfig,
    seed: u64,
    now: Instant,
    on_demand: bool,
    out: &mut Effects<()>,
) -> Link {
    let (peer, config) = ((PEER, generation), config.clone());
    match on_demand {
        true => Link::on_demand(peer, "peer:1".into(), config, seed, now),
        false => Link::new(peer, "peer:1".into(), config, seed, now, out),
    }
}

/// Fetches as shards ask for them, of flights that differ.
fn supply() -> &'static [FetchItem] {
    static SUPPLY: OnceLock<Vec<FetchItem>> = OnceLock::new();
    SUPPLY.get_or_init(|| {
        let ring = Ring::new(Placement::Slots, RingEpoch::new(1), vec![Member::new(PEER, "peer:1")]);
        let (ring, group, mut out) = (Arc::new(ring.expect("one member")), GroupId::new(0), Effects::new());
        let mut shard = Shard::new(0, ShardConfig::default(), PeerId::new(0), ring, 1, Instant::ZERO)
            .expect("the defaults are in range");
        shard.add_group(group, GroupConfig::default()).expect("the defaults are in range");
        for n in 0..40_u64 {
            let key = Key::from(&HashedKey::new(group, &[b'k'; 40][..=n as usize], n));
            let load = LoadRequest::new(key.as_hashed(), (), Instant::MAX);
            drop(shard.load(Instant::ZERO, load, &mut out));
        }
        let calls = out.drain_calls();
        calls.filter_map(|call| if let Call::Fetch { item, .. } = call { Some(item) } else { None }).collect()
    })
}
