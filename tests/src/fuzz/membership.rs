//! A membership in front of a registry that does anything it may, against a small etcd and what was told of it.

mod etcd;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use groupcache_core::{
    Change, Disposition, Effects, Instant, Intent, LeaseId, MemberRecord, Membership, MembershipConfig, OpId,
    PeerId, RegistryIntent, RegistryOutcome, Revision, Wake, WatchEvent,
};

use self::etcd::Etcd;
use self::told::{Told, view_of};

/// The view is what was told, in the order of its revisions, whatever order it comes in; losing everybody at once is confirmed first. Nobody is believed
/// to be registered past the lease. What is asked is bounded, watches go on where the last fact ended, wakes come in time and never for nothing. Once the
/// registry is well, the node is in it and its view is the registry's; once it is stopped, it is out, and asks for nothing more.
pub fn membership(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    if let Ok(mut bench) = Bench::new(&mut bytes) {
        while !bytes.is_empty() && bench.step(&mut bytes).is_ok() {}
        if bench.etcd.revision % 4 == 0 {
            bench.stop_amid();
        } else {
            bench.heal_and_stop();
        }
    }
}

const ME: &str = "n0:1";
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything is waited for once the registry is well.
const QUIET: Duration = Duration::from_secs(200);

/// What is under way between the node and the registry.
#[derive(Clone, Debug)]
enum Message {
    Request(RegistryIntent),
    Answer(OpId, RegistryOutcome),
    Watch(OpId, WatchEvent),
}

/// An operation that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Asked {
    is_list: bool,
    sent: Instant,
    /// The latest revision that was known then.
    floor: i64,
    /// When the node gives it up at the latest.
    until: Instant,
}

struct Bench {
    node: Membership,
    out: Effects<()>,
    config: MembershipConfig,
    etcd: Etcd,
    told: Told,
    now: Instant,
    up: bool,
    /// The registry's side of the watch: the operation, and how far it has told.
    watch: Option<(OpId, i64)>,
    /// The watch that the node has open.
    watching: Option<OpId>,
    messages: VecDeque<Message>,
    asked: BTreeMap<OpId, Asked>,
    /// Until then the node may believe in a lease that the registry took away before its time.
    betrayed_until: Instant,
    ids: BTreeMap<String, PeerId>,
    regressions: u64,
}

impl Bench {
    fn new(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let mut config = MembershipConfig::new(ME);
        config.lease_ttl = SECOND * *bytes.choose(&[1, 5, 5, 60])?;
        config.op_timeout = MS * *bytes.choose(&[1, 500, 2_000, 20_000])?;
        config.empty_guard = SECOND * *bytes.choose(&[0, 1, 10])?;
        config.list_interval = SECOND * *bytes.choose(&[1, 60, 60])?;
        let now = Instant::from_nanos(*bytes.choose(&[0, 1 << 40, u64::MAX / 2])?);
        let node = Membership::new(config.clone(), bytes.arbitrary()?, now).expect("in range");
        let mut bench = Self {
            node,
            out: Effects::new(),
            etcd: Etcd::empty(0),
            told: Told::nothing(ME, config.empty_guard),
            config,
            now,
            up: true,
            watch: None,
            watching: None,
            messages: VecDeque::new(),
            asked: BTreeMap::new(),
            betrayed_until: now,
            ids: BTreeMap::from([(ME.to_owned(), PeerId::new(0))]),
            regressions: 0,
        };
        for _ in 0..bytes.int_in_range(0..=3)? {
            bench.meddle(bytes)?;
        }
        bench.start();
        Ok(bench)
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        match bytes.int_in_range(0..=31)? {
            0..=9 => self.deliver_one(bytes)?,
            10..=15 => {
                // As an embedder does it: everything that has come, then sleep.
                for _ in 0..4 {
                    self.deliver_first();
                }
                self.sleep(Duration::from_millis(bytes.int_in_range(0..=3_000)?));
            }
            16..=17 => {
                self.pass(MS * *bytes.choose(&[0, 1, 300, 999, 1_700, 5_001, 11_000, 61_000])?);
                self.time_out();
            }
            18 => self.double(bytes)?,
            19 => drop(self.messages.pop_front()),
            20..=22 => self.meddle(bytes)?,
            23 => self.etcd.delete(ME),
            24 => {
                self.etcd.revoke_all();
                self.betray();
            }
            25 => self.etcd.compact(),
            26 => self.set_up(bytes.ratio(2, 3)?),
            27 if bytes.ratio(1, 4)? => {
                self.set_up(false);
                self.etcd.lose_data();
                self.betray();
                self.set_up(true);
            }
            28 => self.answer_unasked(bytes)?,
            29 => self.go_back_in_time(),
            30 if bytes.ratio(1, 3)? => self.stop(),
            _ => self.start(),
        }
        self.check();
        Ok(())
    }

    fn start(&mut self) {
        let was_running = self.node.is_running();
        self.node.start(self.now, &mut self.out);
        assert!(self.node.is_running());
        if was_running {
            assert!(self.out.is_empty(), "a second start");
        } else {
            self.asked.clear();
        }
        self.carry_out();
    }

    fn stop(&mut self) {
        self.node.stop(self.now, &mut self.out);
        self.told.stopped();
        self.asked.clear();
        self.watching = None;
        self.carry_out();
    }

    fn betray(&mut self) {
        self.betrayed_until = self.now.saturating_add(self.config.lease_ttl);
    }

    /// Another member's record comes, changes, or goes.
    fn meddle(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let other = format!("n{}:1", bytes.int_in_range(1..=3)?);
        let (key, weight) = match bytes.int_in_range(0..=7)? {
            0..=3 => {
                self.etcd.delete(&other);
                return Ok(());
            }
            4 => ("alias:1".to_owned(), 7),
            5 => (other.clone(), *bytes.choose(&[0, 257, u32::MAX])?),
            _ => (other.clone(), bytes.int_in_range(1..=3)?),
        };
        self.etcd.put(MemberRecord::new(other, weight).with_key(key), None);
        Ok(())
    }

    fn set_up(&mut self, up: bool) {
        self.up = up;
        if let (false, Some((op, _))) = (up, self.watch.take()) {
            self.messages.push_back(Message::Watch(op, WatchEvent::Ended(None)));
        }
    }

    fn deliver_one(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        self.tell_watch();
        if !self.messages.is_empty() {
            let index = if bytes.arbitrary()? { 0 } else { bytes.choose_index(self.messages.len())? };
            let message = self.messages.remove(index).expect("an index in range");
            self.deliver(message);
        }
        Ok(())
    }

    fn deliver_first(&mut self) -> bool {
        self.tell_watch();
        let first = self.messages.pop_front();
        let any = first.is_some();
        if let Some(message) = first {
            self.deliver(message);
        }
        any
    }

    fn double(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        if !self.messages.is_empty() {
            let message = self.messages[bytes.choose_index(self.messages.len())?].clone();
            self.messages.push_back(message);
        }
        Ok(())
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Request(RegistryIntent::Watch { op, after }) => {
                if self.up {
                    self.watch = Some((op, after.get()));
                } else {
                    self.messages.push_back(Message::Watch(op, WatchEvent::Ended(None)));
                }
            }
            Message::Request(intent) => {
                let outcome = if self.up {
                    self.etcd.serve(&intent, ME, self.now)
                } else {
                    RegistryOutcome::Failed(None)
                };
                self.messages.push_back(Message::Answer(op_of(&intent), outcome));
            }
            Message::Answer(op, outcome) => self.answer(op, outcome),
            Message::Watch(op, event) => self.watched(op, event),
        }
        self.carry_out();
    }

    /// Hands in what the open watch has to tell, as messages that can be lost.
    fn tell_watch(&mut self) {
        let Some((op, after)) = self.watch.filter(|_| self.up) else { return };
        for (revision, event) in self.etcd.news(after) {
            let is_over = matches!(event, WatchEvent::Compacted { .. });
            self.watch = (!is_over).then_some((op, revision));
            self.messages.push_back(Message::Watch(op, event));
        }
    }

    fn answer(&mut self, op: OpId, outcome: RegistryOutcome) {
        let asked = self.asked.get(&op).copied();
        let disposition = self.node.handle_registry(self.now, op, outcome.clone(), &mut self.out);
        if disposition == Disposition::Stale {
            assert!(self.out.is_empty(), "what is stale changes nothing");
            return;
        }
        self.asked.remove(&op);
        if let RegistryOutcome::Listed { records, revision } = outcome {
            let Asked { floor, sent, .. } = asked.expect("a list that was asked for");
            let answer = (revision.get(), records);
            self.told.list((floor, sent), answer, self.node.members(), self.now);
        }
    }

    fn watched(&mut self, op: OpId, event: WatchEvent) {
        let disposition = self.node.handle_watch(self.now, op, event.clone(), &mut self.out);
        if self.watching != Some(op) {
            assert_eq!(disposition, Disposition::Stale, "of a watch that is over");
        }
        if disposition == Disposition::Stale {
            assert!(self.out.is_empty(), "what is stale changes nothing");
            return;
        }
        match event {
            WatchEvent::Changed { revision, changes } => {
                self.told.changed(revision.get(), changes);
                self.told.check(self.node.members(), None, self.now);
            }
            WatchEvent::Compacted { .. } | WatchEvent::Ended(_) => self.watching = None,
        }
    }

    /// An answer to nothing that was asked.
    fn answer_unasked(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let op = foreign_op();
        let (before, epoch) = (self.node.members().to_vec(), self.node.epoch());
        let outcome = match bytes.int_in_range(0..=5)? {
            0 => RegistryOutcome::Listed { records: Vec::new(), revision: Revision::new(i64::MAX) },
            1 => RegistryOutcome::LeaseLost,
            2 => RegistryOutcome::Registered { lease: LeaseId::new(77), ttl: SECOND },
            3 => RegistryOutcome::Deregistered,
            4 => RegistryOutcome::KeptAlive { ttl: Duration::ZERO },
            _ => RegistryOutcome::Failed(None),
        };
        assert_eq!(self.node.handle_registry(self.now, op, outcome, &mut self.out), Disposition::Stale);
        let changes = vec![Change::Put(MemberRecord::new("nobody:1", 1))];
        let event = WatchEvent::Changed { revision: Revision::new(i64::MAX), changes };
        assert_eq!(self.node.handle_watch(self.now, op, event, &mut self.out), Disposition::Stale);
        assert!(self.out.is_empty());
        assert_eq!((self.node.members(), self.node.epoch()), (&before[..], epoch));
        Ok(())
    }

    fn go_back_in_time(&mut self) {
        let earlier = self.now.saturating_sub(3 * SECOND);
        let stale = |node: &mut Membership, now, out: &mut Effects<()>| {
            node.handle_registry(now, foreign_op(), RegistryOutcome::LeaseLost, out)
        };
        let _now_is_known = stale(&mut self.node, self.now, &mut self.out);
        let before = (self.node.next_wake(), self.node.is_registered(self.now));
        let _earlier = stale(&mut self.node, earlier, &mut self.out);
        assert_eq!((self.node.next_wake(), self.node.is_registered(earlier)), before, "time is clamped");
        self.regressions += u64::from(earlier < self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
        self.etcd.expire(self.now);
    }

    /// Sleeps for `time`, and wakes up exactly when the node wants to.
    fn sleep(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        for _ in 0..64 {
            match self.node.next_wake() {
                Wake::Now => {}
                Wake::At(at) if at <= end => self.pass(at.saturating_since(self.now)),
                Wake::At(_) | Wake::Idle => return self.pass(end.saturating_since(self.now)),
            }
            self.time_out();
        }
    }

    fn time_out(&mut self) {
        let was_due = self.node.next_wake().is_due(self.now);
        let before = self.node.stats();
        let wake = self.node.handle_timeout(self.now, &mut self.out);
        assert_eq!(wake, self.node.next_wake());
        assert!(!wake.is_due(self.now), "{wake:?} at {:?}", self.now);
        assert!(was_due || (self.out.is_empty() && before == self.node.stats()), "work before its time");
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let now = self.now;
        self.asked.retain(|_, asked| now < asked.until);
        for intent in self.out.drain_intents().collect::<Vec<_>>() {
            let Intent::Registry(intent) = intent else { panic!("not for a registry: {intent:?}") };
            match intent {
                RegistryIntent::Watch { op, after } => {
                    assert_eq!(after, self.node.revision());
                    assert_eq!(after.get(), self.told.revision, "behind all that was told");
                    self.watching = Some(op);
                }
                _ => {
                    let is_list = matches!(intent, RegistryIntent::List { .. });
                    let limit = match intent {
                        RegistryIntent::KeepAlive { .. } => {
                            self.config.op_timeout.min(self.config.lease_ttl / 3)
                        }
                        _ => self.config.op_timeout,
                    };
                    let (floor, until) = (self.told.revision, now.saturating_add(limit));
                    let asked = Asked { is_list, sent: now, floor, until };
                    assert!(self.asked.insert(op_of(&intent), asked).is_none(), "an operation is used twice");
                }
            }
            self.messages.push_back(Message::Request(intent));
        }
        let lists = self.asked.values().filter(|asked| asked.is_list).count();
        assert!(lists <= 1 && self.asked.len() - lists <= 2, "too much is under way: {:?}", self.asked);
        assert!(self.out.is_empty());
    }

    fn check(&mut self) {
        if self.node.is_registered(self.now) && self.now >= self.betrayed_until {
            assert!(self.etcd.has_lease(self.now), "believes in a lease that has ended");
        }
        assert_eq!(self.node.stats().clamped_time, self.regressions);
        let is_over = self.node.is_stopped() || !self.node.is_running();
        assert!(is_over || self.node.next_wake() != Wake::Idle, "a node that runs has plans");
        assert!(!self.node.is_stopped() || self.node.next_wake() == Wake::Idle);
        for member in self.node.members() {
            let id = self.node.peer_id(&member.addr).expect("every member has an id");
            let known = *self.ids.entry(member.addr.to_string()).or_insert(id);
            assert_eq!((known, self.node.peer_addr(id)), (id, Some(&member.addr)), "ids are for ever");
        }
    }

    /// The registry is well from now on, and answers at once.
    fn heal_and_stop(&mut self) {
        self.set_up(true);
        self.start();
        self.run_well(QUIET);
        assert!(self.node.is_registered(self.now), "the node does not register again");
        assert!(self.etcd.records.contains_key(ME), "the record is not put again");
        let held = view_of(self.etcd.records.values().map(|(record, _)| record));
        assert_eq!(self.node.members(), held, "the view is not the registry's");
        self.stop();
        if self.etcd.revision % 2 == 0 {
            self.run_well(SECOND);
        } else {
            self.run_alone();
        }
        assert!(self.node.is_stopped(), "a stop comes to its end");
        assert!(!self.etcd.records.contains_key(ME), "a record is left behind");
        assert_eq!(self.node.next_wake(), Wake::Idle);
    }

    /// Stops in the middle of everything. What the node still waits for arrives, the youngest first; what it has given up is lost, and so is what has been
    /// answered already: of a registration that fails and is carried out behind that, nobody learns before its lease ends.
    fn stop_amid(&mut self) {
        self.set_up(true);
        let was_running = self.node.is_running();
        let (asked, now) = (self.asked.clone(), self.now);
        let waits_for = |op: &OpId| asked.get(op).is_some_and(|asked| now < asked.until);
        let answered = self.messages.iter().filter_map(|message| match message {
            Message::Answer(op, _) => Some(*op),
            Message::Request(_) | Message::Watch(..) => None,
        });
        let answered = BTreeSet::from_iter(answered);
        self.messages.retain(|message| match message {
            Message::Request(intent) => {
                let op = op_of(intent);
                waits_for(&op) && !answered.contains(&op)
            }
            Message::Answer(op, _) => waits_for(op),
            Message::Watch(..) => true,
        });
        self.stop();
        self.messages.make_contiguous().reverse();
        while self.deliver_first() {}
        let is_out = !self.etcd.records.contains_key(ME);
        assert!(is_out || !was_running, "a late registration is left to stand");
        self.run_well(QUIET);
        assert!(!self.etcd.records.contains_key(ME), "a record is left behind");
        assert!(self.node.is_stopped(), "a stop comes to its end");
        assert_eq!(self.node.next_wake(), Wake::Idle);
    }

    fn run_well(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        for turn in 0.. {
            assert!(turn < 5_000, "time stands still");
            while self.deliver_first() {}
            let wake = match self.node.next_wake() {
                Wake::Now => self.now,
                Wake::At(at) => at,
                Wake::Idle => end,
            };
            let next = self.etcd.next_expiry().map_or(wake, |at| wake.min(at)).min(end);
            self.pass(next.saturating_since(self.now));
            if self.now >= end {
                break;
            }
            self.time_out();
            self.check();
        }
        while self.deliver_first() {}
    }

    /// Nothing that is sent arrives any more.
    fn run_alone(&mut self) {
        for _ in 0..1_000 {
            self.messages.clear();
            match self.node.next_wake() {
                Wake::Now => {}
                Wake::At(at) => self.pass(at.saturating_since(self.now)),
                Wake::Idle => break,
            }
            self.time_out();
        }
        self.pass(self.config.lease_ttl);
    }
}

/// An operation of another membership, later than any of ours.
fn foreign_op() -> OpId {
    static FOREIGN: OnceLock<OpId> = OnceLock::new();
    *FOREIGN.get_or_init(|| {
        let (now, mut out) = (Instant::ZERO, Effects::<()>::new());
        let mut other =
            Membership::new(MembershipConfig::new(ME), 0, now).expect("the defaults are in range");
        for _ in 0..20_000 {
            other.stop(now, &mut out);
            other.start(now, &mut out);
        }
        let mut asked = out.drain_intents().filter_map(|intent| match intent {
            Intent::Registry(intent) => Some(op_of(&intent)),
            _ => None,
        });
        asked.next_back().expect("a start asks")
    })
}

fn op_of(intent: &RegistryIntent) -> OpId {
    match intent {
        RegistryIntent::Register { op, .. }
        | RegistryIntent::KeepAlive { op, .. }
        | RegistryIntent::Deregister { op, .. }
        | RegistryIntent::List { op }
        | RegistryIntent::Watch { op, .. } => *op,
    }
}
