//! The link's promises, one test each.

mod batches;
mod failing;
mod figures;
mod leaving;

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

use super::*;
use crate::id::{Attempt, GroupId};
use crate::value::{HashedKey, Key, Value};

const PEER: PeerId = PeerId::new(7);
const MS: Duration = Duration::from_millis(1);

struct Bench {
    link: Link,
    out: Effects<()>,
    now: Instant,
}

fn flight(n: u32) -> FlightId {
    FlightId::new(n, 0, 0)
}

fn item(n: u32, deadline: Instant) -> FetchItem {
    let key = Key::from(&HashedKey::new(GroupId::new(0), n.to_string().as_bytes(), 0));
    FetchItem { flight: flight(n), attempt: Attempt::default(), key, deadline }
}

fn value() -> Outcome {
    Outcome::Value { value: Value::from(&b"v"[..]), ttl: None }
}

impl Bench {
    fn new(configure: impl FnOnce(&mut LinkConfig)) -> Self {
        let mut config = LinkConfig::default();
        configure(&mut config);
        let (mut out, now) = (Effects::new(), Instant::from_nanos(5));
        let link = Link::new((PEER, 0), "peer:1".into(), config, 3, now, &mut out);
        Self { link, out, now }
    }

    /// A link that has dialled nobody yet.
    fn on_demand() -> Self {
        let (config, now) = (LinkConfig::default(), Instant::from_nanos(5));
        let link = Link::on_demand((PEER, 0), "peer:1".into(), config, 3, now);
        Self { link, out: Effects::new(), now }
    }

    /// A link whose dial has succeeded.
    fn up(configure: impl FnOnce(&mut LinkConfig)) -> Self {
        let mut bench = Self::new(configure);
        assert_eq!(bench.dials(), 1);
        bench.connect();
        bench
    }

    fn fetch(&mut self, n: u32) -> Result<(), LinkRefused> {
        let item = item(n, self.now.saturating_add(1000 * MS));
        self.link.fetch(self.now, item, &mut self.out)
    }

    /// Fetches that come together. Answers those that are refused.
    fn fetch_all(&mut self, flights: impl IntoIterator<Item = u32>) -> Vec<(u32, LinkRefused)> {
        let until = self.now.saturating_add(1000 * MS);
        let mut refused = Vec::new();
        let items = flights.into_iter().map(|n| item(n, until));
        self.link.fetch_all(self.now, items, &mut refused, &mut self.out);
        refused.into_iter().map(|(item, why)| (item.flight.slot(), why)).collect()
    }

    /// Batches that were sent: id, flights, protocol.
    fn sent(&mut self) -> Vec<(BatchId, Vec<u32>, Protocol)> {
        let intents = self.out.drain_intents();
        let batches = intents.filter_map(|intent| match intent {
            Intent::Fetch(batch) => {
                let flights = batch.items.iter().map(|item| item.flight.slot()).collect();
                Some((batch.batch, flights, batch.protocol))
            }
            _ => None,
        });
        batches.collect()
    }

    /// The one batch that is to be sent.
    fn batch(&mut self) -> Batch {
        match self.out.drain_intents().next() {
            Some(Intent::Fetch(batch)) => batch,
            other => panic!("{other:?}"),
        }
    }

    fn dials(&mut self) -> usize {
        self.out.drain_intents().filter(|intent| matches!(intent, Intent::Connect { .. })).count()
    }

    /// What was settled: flight, and whether it got a value.
    fn settled(&mut self) -> Vec<(u32, bool)> {
        let settled = self.out.drain_settled();
        settled
            .map(|settled| (settled.flight.slot(), matches!(settled.outcome, Outcome::Value { .. })))
            .collect()
    }

    fn accept(&mut self, batch: BatchId) {
        self.link.handle_replies(self.now, batch, [], &mut self.out);
    }

    fn reply(&mut self, batch: BatchId, indexes: &[u32]) {
        let replies = indexes.iter().map(|&index| (index, value()));
        self.link.handle_replies(self.now, batch, replies, &mut self.out);
    }

    fn close(&mut self, batch: BatchId, end: BatchEnd) {
        self.link.handle_batch_closed(self.now, batch, end, &mut self.out);
    }

    /// The connection has lasted, and breaks.
    fn lose_in_time(&mut self) {
        self.now = self.now.saturating_add(LinkConfig::default().connect_timeout);
        self.lose();
    }

    /// The dial fails, or the connection breaks.
    fn lose(&mut self) {
        let dial = self.link.connection.or(self.link.dialled).expect("there is a connection, or a dial");
        self.link.handle_disconnected(self.now, dial, None, &mut self.out);
    }

    /// The dial succeeds. Answers the connection.
    fn connect(&mut self) -> DialId {
        let dial = self.link.dialled.expect("a dial is under way");
        let disposition = self.link.handle_connected(self.now, dial, Protocol::Batched, &mut self.out);
        assert_eq!(disposition, Disposition::Applied);
        dial
    }

    fn sleep_to_wake(&mut self) {
        match self.link.next_wake() {
            Wake::At(at) => {
                self.wake_too_early(at);
                self.now = at;
            }
            Wake::Now => {}
            Wake::Idle => panic!("the link has nothing to wait for"),
        }
        let _ = self.link.handle_timeout(self.now, &mut self.out);
    }

    /// A time-out that comes before its time changes nothing.
    fn wake_too_early(&mut self, at: Instant) {
        let emitted = |out: &Effects<()>| (out.intents.len(), out.settled.len());
        let (before, state) = (emitted(&self.out), self.link.state);
        let early = at.saturating_sub(Duration::from_nanos(1));
        assert_eq!(self.link.handle_timeout(early, &mut self.out), Wake::At(at));
        assert_eq!((emitted(&self.out), self.link.state), (before, state));
    }
}

fn one(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

#[test]
fn an_idle_link_sends_at_once_and_a_busy_one_gathers() {
    let mut bench = Bench::up(|config| config.window = one(1));
    bench.fetch(1).unwrap();
    let sent = bench.sent();
    assert_eq!((sent.len(), &sent[0].1), (1, &[1].to_vec()));
    bench.fetch(2).unwrap();
    bench.fetch(3).unwrap();
    assert!(bench.sent().is_empty());
    // The first reply, though empty, says that the peer has taken the batch: the next may go.
    bench.accept(sent[0].0);
    assert_eq!(bench.sent()[0].1, [2, 3]);
    assert!(bench.settled().is_empty());
    bench.reply(sent[0].0, &[0]);
    assert_eq!(bench.settled(), [(1, true)]);
}

#[test]
fn fetches_that_come_together_leave_together() {
    let mut bench = Bench::up(|config| config.max_queue = one(4));
    let refused = bench.fetch_all(1..=3);
    assert_eq!((bench.sent()[0].1.clone(), refused), ([1, 2, 3].to_vec(), Vec::new()));

    // More than the queue takes: what there is room for has left by then.
    let refused = bench.fetch_all(10..20);
    assert_eq!(bench.sent().len(), 1, "the window is two");
    let full = LinkRefused::QueueFull { max: 4 };
    assert_eq!(refused, [(18, full), (19, full)]);
}

#[test]
fn what_is_fetched_before_a_batch_is_sent_goes_along_with_it() {
    let mut bench = Bench::up(|config| {
        config.top_up = true;
        config.max_batch_keys = one(4);
    });
    bench.fetch(1).unwrap();
    let mut batch = bench.batch();
    bench.fetch(2).unwrap();
    bench.fetch(3).unwrap();
    assert!(bench.out.is_empty(), "there is room in the window, and they wait all the same");
    assert_eq!(bench.link.top_up(bench.now, &mut batch, &mut bench.out), Disposition::Applied);
    assert_eq!(batch.items.iter().map(|item| item.flight.slot()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(bench.link.stats().keys, 3);
    assert_eq!(bench.link.top_up(bench.now, &mut batch, &mut bench.out), Disposition::Stale, "once");

    bench.reply(batch.batch, &[2, 0, 1]);
    assert_eq!(bench.settled(), [(3, true), (1, true), (2, true)]);
}

#[test]
fn a_batch_is_topped_up_to_its_limits_and_the_rest_leaves_behind_it() {
    let mut bench = Bench::up(|config| {
        config.top_up = true;
        config.max_batch_keys = one(2);
    });
    bench.fetch(1).unwrap();
    let mut batch = bench.batch();
    for n in 2..=4 {
        bench.fetch(n).unwrap();
    }
    assert_eq!(bench.link.top_up(bench.now, &mut batch, &mut bench.out), Disposition::Applied);
    assert_eq!(batch.items.len(), 2);
    assert_eq!(bench.sent()[0].1, [3, 4], "the window is two");
}

#[test]
fn a_batch_that_fails_before_it_is_sent_holds_up_nobody() {
    let mut bench = Bench::up(|config| config.top_up = true);
    bench.fetch(1).unwrap();
    let mut batch = bench.batch();
    bench.fetch(2).unwrap();
    bench.close(batch.batch, BatchEnd::Failed(None));
    assert_eq!(bench.settled(), [(1, false)]);
    assert_eq!(bench.sent()[0].1, [2]);
    assert_eq!(bench.link.top_up(bench.now, &mut batch, &mut bench.out), Disposition::Stale);
}

#[test]
fn a_link_on_demand_dials_when_something_is_first_asked() {
    let mut bench = Bench::on_demand();
    assert_eq!((bench.dials(), bench.link.next_wake()), (0, Wake::Idle));
    assert!(bench.link.is_up() && !bench.link.is_first_dial(), "nobody waits for it");
    bench.fetch(1).unwrap();
    bench.fetch(2).unwrap();
    assert_eq!(bench.dials(), 1);
    bench.connect();
    assert_eq!(bench.sent()[0].1, [1, 2]);
    assert_eq!(bench.link.want_connection(bench.now, &mut bench.out), Disposition::Stale);
}

#[test]
fn a_link_on_demand_that_is_to_tell_something_dials_once() {
    let mut bench = Bench::on_demand();
    for wanted in [Disposition::Applied, Disposition::Stale] {
        assert_eq!(bench.link.want_connection(bench.now, &mut bench.out), wanted);
    }
    assert_eq!(bench.dials(), 1);
}

#[test]
fn a_link_on_demand_that_was_never_used_leaves_at_once_and_dials_nobody() {
    let mut bench = Bench::on_demand();
    bench.link.handle_left(bench.now, &mut bench.out);
    assert!(bench.link.is_closed());
    assert_eq!(bench.dials(), 0);
}

#[test]
fn of_fetches_that_come_together_one_is_the_probe() {
    let mut bench = Bench::up(|config| config.failure_threshold = one(1));
    bench.fetch(0).unwrap();
    let batch = bench.sent()[0].0;
    bench.close(batch, BatchEnd::Failed(None));
    bench.sleep_to_wake();
    assert_eq!(bench.fetch_all(1..=3), [(2, LinkRefused::Down), (3, LinkRefused::Down)]);
    assert_eq!(bench.sent()[0].1, [1]);
}

#[test]
fn batches_are_bounded_by_keys_and_by_bytes() {
    let mut bench = Bench::new(|config| {
        config.max_batch_keys = one(3);
        config.max_batch_bytes = core::num::NonZeroUsize::new(2).unwrap();
        config.window = one(10);
    });
    for n in [1, 2, 3, 100, 4] {
        bench.fetch(n).unwrap();
    }
    bench.connect();
    let batches: Vec<_> = bench.sent().into_iter().map(|(_, flights, _)| flights).collect();
    assert_eq!(batches, [[1, 2].to_vec(), [3].to_vec(), [100].to_vec(), [4].to_vec()]);
}

#[test]
fn a_full_queue_refuses_and_says_so() {
    let mut bench = Bench::new(|config| config.max_queue = one(1));
    bench.fetch(1).unwrap();
    assert_eq!(bench.fetch(2), Err(LinkRefused::QueueFull { max: 1 }));
    assert_eq!(bench.link.stats().refused_full, 1);
}

#[test]
fn a_peer_without_our_service_is_asked_one_key_a_call() {
    let mut bench = Bench::up(|_| {});
    bench.fetch(1).unwrap();
    let (batch, ..) = bench.sent()[0];
    bench.fetch(2).unwrap();
    bench.close(batch, BatchEnd::Unimplemented);
    let sent = bench.sent();
    assert!(
        sent.iter().any(|(_, flights, protocol)| flights == &[1] && *protocol == Protocol::Single),
        "{sent:?}"
    );
    bench.fetch(3).unwrap();
    assert_eq!(bench.sent()[0].2, Protocol::Single);
    assert!(bench.settled().is_empty());
    assert!(bench.link.is_up());
}

#[test]
fn a_lost_connection_is_redialled_at_once_and_fetches_wait_for_that() {
    let mut bench = Bench::up(|_| {});
    bench.fetch(1).unwrap();
    bench.sent();
    bench.lose_in_time();
    assert_eq!(bench.settled(), [(1, false)]);
    assert_eq!(bench.dials(), 1);
    bench.fetch(2).unwrap();
    bench.connect();
    assert_eq!(bench.sent()[0].1, [2]);
}

#[test]
fn a_dead_peer_costs_one_dial_and_then_refuses_at_once_until_it_is_back() {
    let mut bench = Bench::up(|_| {});
    bench.lose_in_time();
    bench.fetch(1).unwrap();
    bench.lose();
    assert_eq!(bench.settled(), [(1, false)]);
    assert_eq!(bench.fetch(2), Err(LinkRefused::Down));
    bench.out.drain_intents();
    let mut last = bench.now;
    for _ in 0..12 {
        bench.sleep_to_wake();
        assert_eq!(bench.dials(), 1, "it redials by itself");
        assert_eq!(bench.fetch(2), Err(LinkRefused::Down), "and nobody waits for that");
        bench.lose();
        let pause = bench.now.saturating_since(last);
        assert!(pause <= LinkConfig::default().backoff_max);
        last = bench.now;
    }
    assert_eq!(bench.link.stats().opened, 1, "it never closed in between");
    bench.sleep_to_wake();
    bench.connect();
    bench.out.drain_intents();
    bench.fetch(3).unwrap();
    bench.fetch(4).unwrap();
    assert_eq!(bench.sent().len(), 2);
}

#[test]
fn a_peer_that_shows_itself_is_redialled_at_once_but_not_in_a_loop() {
    let mut bench = Bench::new(|config| config.backoff_base = 50 * MS);
    bench.lose();
    assert_eq!(bench.dials(), 1, "the first dial");
    let seen = |bench: &mut Bench| bench.link.handle_seen(bench.now, &mut bench.out);
    assert_eq!(seen(&mut bench), Disposition::Applied);
    assert_eq!(bench.dials(), 0, "it was dialled just now");
    bench.now = bench.now.saturating_add(50 * MS);
    assert_eq!(seen(&mut bench), Disposition::Applied);
    assert_eq!(seen(&mut bench), Disposition::Stale);
    assert_eq!(bench.dials(), 1);
    bench.connect();
    assert!(bench.link.is_connected());
    assert_eq!(seen(&mut bench), Disposition::Stale);
}

#[test]
fn a_peer_that_shows_itself_right_after_a_dial_failed_is_not_left_to_the_backoff() {
    let mut bench = Bench::new(|config| config.backoff_base = 50 * MS);
    bench.lose();
    for _ in 0..8 {
        bench.sleep_to_wake();
        bench.lose();
    }
    bench.out.drain_intents();
    let dialled_at = bench.now;
    bench.now = bench.now.saturating_add(10 * MS);
    bench.link.handle_seen(bench.now, &mut bench.out);
    assert_eq!(bench.dials(), 0);
    bench.sleep_to_wake();
    assert_eq!((bench.dials(), bench.now), (1, dialled_at.saturating_add(50 * MS)));
}

#[test]
fn connections_that_break_as_soon_as_they_are_made_are_dialled_with_backoff() {
    let mut bench = Bench::up(|_| {});
    bench.lose();
    assert_eq!(bench.dials(), 0);
    assert_eq!(bench.fetch(1), Err(LinkRefused::Down));
    bench.sleep_to_wake();
    assert_eq!(bench.dials(), 1);
}

#[test]
fn behind_a_breaker_one_batch_is_a_probe_and_opens_it_again_when_it_fails() {
    let mut bench = Bench::up(|config| config.failure_threshold = one(1));
    bench.fetch(0).unwrap();
    let (failing, ..) = bench.sent()[0];
    bench.close(failing, BatchEnd::Failed(None));
    assert_eq!(bench.settled(), [(0, false)]);
    bench.sleep_to_wake();
    bench.fetch(1).unwrap();
    assert_eq!(bench.fetch(9), Err(LinkRefused::Down), "one probe at a time");
    let (probe, ..) = bench.sent()[0];
    bench.close(probe, BatchEnd::Failed(None));
    assert_eq!(bench.settled(), [(1, false)]);
    assert_eq!(bench.fetch(2), Err(LinkRefused::Down));
    // The connection is still there: no dial is needed before the next probe.
    bench.sleep_to_wake();
    assert_eq!(bench.dials(), 0);
    bench.fetch(3).unwrap();
    let (probe, ..) = bench.sent()[0];
    bench.accept(probe);
    bench.fetch(4).unwrap();
    assert_eq!(bench.sent()[0].1, [4]);
}

#[test]
fn batches_that_fail_in_a_row_open_the_breaker_and_a_success_starts_the_count_again() {
    let mut bench = Bench::up(|config| config.failure_threshold = one(3));
    for n in 0..2 {
        bench.fetch(n).unwrap();
        let (batch, ..) = bench.sent()[0];
        bench.close(batch, BatchEnd::Failed(None));
    }
    bench.fetch(2).unwrap();
    let (batch, ..) = bench.sent()[0];
    bench.reply(batch, &[0]);
    for n in 3..6 {
        bench.fetch(n).unwrap();
        let (batch, ..) = bench.sent()[0];
        bench.close(batch, BatchEnd::Failed(None));
    }
    assert_eq!(bench.fetch(6), Err(LinkRefused::Down));
    assert_eq!(bench.link.stats().opened, 1);
}

#[test]
fn a_peer_that_accepts_every_batch_and_breaks_it_opens_the_breaker_for_longer_each_time() {
    let mut bench = Bench::up(|config| config.failure_threshold = one(2));
    let mut rests = Vec::new();
    for n in 0..20 {
        if bench.fetch(n).is_err() {
            let down_at = bench.now;
            bench.sleep_to_wake();
            rests.push(bench.now.saturating_since(down_at));
            bench.fetch(n).unwrap();
        }
        let (batch, ..) = bench.sent()[0];
        bench.accept(batch);
        bench.close(batch, BatchEnd::Failed(None));
    }
    assert_eq!(bench.link.stats().opened, 10);
    assert!(rests[8] > rests[0] * 4, "{rests:?}");
}

#[test]
fn a_peer_at_work_on_what_takes_too_long_has_answered_and_not_failed() {
    for by_stream in [false, true] {
        let mut bench = Bench::up(|config| config.failure_threshold = one(1));
        bench.fetch(1).unwrap();
        let (batch, ..) = bench.sent()[0];
        bench.accept(batch);
        bench.now = bench.now.saturating_add(1000 * MS);
        if by_stream {
            bench.close(batch, BatchEnd::Failed(None));
        } else {
            let _ = bench.link.handle_timeout(bench.now, &mut bench.out);
        }
        let settled = bench.out.drain_settled().next().unwrap();
        let is_deadline = |failure: &Failure| failure.kind == FailureKind::Deadline;
        assert!(matches!(&settled.outcome, Outcome::Failed(failure) if is_deadline(failure)), "{settled:?}");
        assert!(bench.link.is_connected());
    }
}

#[test]
fn a_dial_that_is_never_answered_is_given_up_in_time() {
    let mut bench = Bench::new(|config| config.connect_timeout = 50 * MS);
    bench.fetch(1).unwrap();
    assert_eq!(bench.link.next_wake(), Wake::At(bench.now.saturating_add(50 * MS)));
    bench.sleep_to_wake();
    assert_eq!(bench.settled(), [(1, false)]);
    assert!(!bench.link.is_up());
    // The dial succeeds after all: a probe may go.
    bench.connect();
    bench.fetch(2).unwrap();
    assert_eq!(bench.sent()[0].1, [2]);
}

#[test]
fn a_silent_peer_is_given_up_at_the_fetches_deadline_and_counts_as_failed() {
    let mut bench = Bench::up(|config| config.failure_threshold = one(1));
    bench.fetch(1).unwrap();
    let (batch, ..) = bench.sent()[0];
    bench.sleep_to_wake();
    assert_eq!(bench.settled(), [(1, false)]);
    let aborted = bench
        .out
        .drain_intents()
        .any(|intent| matches!(intent, Intent::AbortFetch { batch: of, .. } if of == batch));
    assert!(aborted && !bench.link.is_up());
}

#[test]
fn a_queued_fetch_is_given_back_at_its_deadline_while_the_window_is_full() {
    let mut bench = Bench::up(|config| config.window = one(1));
    bench.fetch(1).unwrap();
    let sooner = item(2, bench.now.saturating_add(10 * MS));
    bench.link.fetch(bench.now, sooner, &mut bench.out).unwrap();
    bench.sleep_to_wake();
    assert_eq!(bench.now, Instant::from_nanos(5).saturating_add(10 * MS));
    assert_eq!(bench.settled(), [(2, false)], "its flight has time left to ask elsewhere");
    assert_eq!(bench.link.next_wake(), Wake::At(Instant::from_nanos(5).saturating_add(1000 * MS)));
}

#[test]
fn a_cancelled_fetch_leaves_the_queue_or_aborts_its_batch_when_it_is_the_last_in_it() {
    let mut bench = Bench::up(|config| config.window = one(1));
    bench.fetch(1).unwrap();
    let (batch, ..) = bench.sent()[0];
    bench.fetch(2).unwrap();
    bench.fetch(3).unwrap();
    bench.link.cancel(bench.now, flight(2), &mut bench.out);
    bench.link.cancel(bench.now, flight(1), &mut bench.out);
    let intents: Vec<_> = bench.out.drain_intents().collect();
    assert!(matches!(&intents[0], Intent::AbortFetch { batch: of, .. } if *of == batch));
    assert!(
        matches!(&intents[1], Intent::Fetch(next) if next.items.len() == 1 && next.items[0].flight == flight(3))
    );
    assert_eq!(bench.link.cancel(bench.now, flight(1), &mut bench.out), Disposition::Stale);
    assert!(bench.settled().is_empty());
}

#[test]
fn answers_twice_out_of_range_or_to_no_batch_are_stale() {
    let mut bench = Bench::up(|_| {});
    bench.fetch(1).unwrap();
    let (batch, ..) = bench.sent()[0];
    bench.reply(batch, &[9]);
    bench.reply(batch, &[0, 0]);
    assert_eq!(bench.settled(), [(1, true)]);
    bench.reply(batch, &[0]);
    bench.close(batch, BatchEnd::Failed(None));
    assert!(bench.settled().is_empty());
    assert_eq!(bench.link.stats().stale, 4);
    assert!(bench.link.is_up());
}

#[test]
fn what_a_batch_leaves_unanswered_is_unreachable() {
    let mut bench = Bench::new(|_| {});
    bench.fetch(1).unwrap();
    bench.fetch(2).unwrap();
    bench.connect();
    let (batch, ..) = bench.sent()[0];
    bench.reply(batch, &[1]);
    bench.close(batch, BatchEnd::Complete);
    assert_eq!(bench.settled(), [(2, true), (1, false)]);
}

#[test]
fn a_closed_link_settles_what_it_holds_refuses_and_is_forgotten() {
    let mut bench = Bench::up(|config| config.window = one(1));
    bench.fetch(1).unwrap();
    bench.fetch(2).unwrap();
    bench.out.drain_intents();
    bench.link.close(bench.now, &mut bench.out);
    bench.link.close(bench.now, &mut bench.out);
    assert_eq!(bench.settled(), [(1, false), (2, false)]);
    assert_eq!(bench.fetch(3), Err(LinkRefused::Closed));
    let forgets = bench.out.drain_intents().filter(|intent| matches!(intent, Intent::Forget { .. })).count();
    assert_eq!(forgets, 1);
    assert_eq!(bench.link.next_wake(), Wake::Idle);
}
