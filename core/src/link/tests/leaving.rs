//! Leaving in order: a promise that was made is kept, and no other is made.

use super::*;

impl Bench {
    /// The connection, which has lasted, takes no more calls. Answers it.
    fn drain(&mut self) -> DialId {
        self.now = self.now.saturating_add(LinkConfig::default().connect_timeout);
        let dial = self.link.connection.expect("a connection");
        let disposition = self.link.handle_draining(self.now, dial, &mut self.out);
        assert_eq!(disposition, Disposition::Applied);
        dial
    }

    /// The connection of a peer that has left takes no more calls. Answers it.
    fn drain_left(&mut self) -> DialId {
        let dial = self.link.connection.expect("a connection");
        assert_eq!(self.link.handle_draining(self.now, dial, &mut self.out), Disposition::Applied);
        assert_eq!(self.dials(), 0, "nobody is dialled who has left");
        dial
    }

    fn leave(&mut self) {
        assert_eq!(self.link.handle_left(self.now, &mut self.out), Disposition::Applied);
    }

    fn come_back(&mut self) -> Disposition {
        self.link.handle_returned(self.now, &mut self.out)
    }

    fn gone(&mut self, dial: DialId) -> Disposition {
        self.link.handle_disconnected(self.now, dial, None, &mut self.out)
    }

    fn forgets(&mut self) -> usize {
        self.out.drain_intents().filter(|intent| matches!(intent, Intent::Forget { .. })).count()
    }

    /// One fetch in flight and one in the queue. Answers the batch.
    fn half_sent() -> (Self, BatchId) {
        let mut bench = Self::up(|config| config.window = one(1));
        bench.fetch(1).unwrap();
        let (batch, ..) = bench.sent()[0];
        bench.fetch(2).unwrap();
        (bench, batch)
    }
}

#[test]
fn a_peer_that_leaves_the_ring_still_answers_what_is_in_flight() {
    let (mut bench, batch) = Bench::half_sent();
    bench.leave();
    assert_eq!(bench.settled(), [(2, false)], "what was only queued is asked elsewhere");
    assert_eq!(bench.fetch(3), Err(LinkRefused::Closed));
    assert!(bench.link.is_leaving() && !bench.link.is_up());
    bench.accept(batch);
    assert_eq!(bench.forgets(), 0, "the connection is needed");
    bench.reply(batch, &[0]);
    assert_eq!(bench.settled(), [(1, true)]);
    assert_eq!(bench.forgets(), 1);
    assert!(bench.link.is_closed());
}

#[test]
fn a_peer_that_leaves_with_nothing_in_flight_is_forgotten_at_once() {
    let mut bench = Bench::up(|_| {});
    bench.leave();
    assert_eq!(bench.forgets(), 1);
    assert!(bench.link.is_closed());
    assert_eq!(bench.link.handle_left(bench.now, &mut bench.out), Disposition::Stale);
    assert_eq!(bench.come_back(), Disposition::Stale, "it is to be made anew");
    assert!(bench.out.is_empty());
}

#[test]
fn a_peer_that_has_left_is_waited_for_until_the_last_deadline() {
    let (mut bench, batch) = Bench::half_sent();
    bench.accept(batch);
    let deadline = Instant::from_nanos(5).saturating_add(1000 * MS);
    bench.sent();
    bench.leave();
    assert_eq!(bench.link.next_wake(), Wake::At(deadline));
    bench.sleep_to_wake();
    assert_eq!(bench.now, deadline);
    assert_eq!(bench.settled(), [(1, false), (2, false)]);
    assert_eq!(bench.forgets(), 1);
    assert_eq!(bench.link.next_wake(), Wake::Idle);
}

#[test]
fn a_peer_that_has_left_is_forgotten_when_nobody_wants_its_answer() {
    let (mut bench, _) = Bench::half_sent();
    bench.leave();
    bench.link.cancel(bench.now, flight(1), &mut bench.out);
    assert_eq!(bench.forgets(), 1);
}

#[test]
fn a_peer_that_has_left_and_breaks_off_is_not_redialled() {
    let (mut bench, _) = Bench::half_sent();
    bench.now = bench.now.saturating_add(LinkConfig::default().connect_timeout / 2);
    let connection = bench.link.connection.unwrap();
    bench.leave();
    bench.settled();
    assert_eq!(bench.gone(connection), Disposition::Applied);
    assert_eq!(bench.settled(), [(1, false)]);
    let intents: Vec<_> = bench.out.drain_intents().collect();
    assert!(matches!(&*intents, [Intent::AbortFetch { .. }, Intent::Forget { .. }]), "{intents:?}");
    assert_eq!(bench.gone(connection), Disposition::Stale);
}

#[test]
fn a_peer_that_comes_back_while_its_answers_are_awaited_is_asked_again() {
    let (mut bench, batch) = Bench::half_sent();
    bench.leave();
    assert_eq!(bench.come_back(), Disposition::Applied);
    assert_eq!(bench.dials(), 0, "the connection is as good as before");
    bench.accept(batch);
    bench.fetch(3).unwrap();
    assert_eq!(bench.sent()[0].1, [3]);
    bench.settled();
    bench.reply(batch, &[0]);
    assert_eq!(bench.settled(), [(1, true)]);
    assert!(bench.link.is_connected());
}

#[test]
fn a_peer_that_is_started_again_keeps_its_old_promises_and_makes_new_ones() {
    let (mut bench, batch) = Bench::half_sent();
    bench.leave();
    let old = bench.drain_left();
    bench.settled();
    assert_eq!(bench.come_back(), Disposition::Applied);
    assert_eq!(bench.dials(), 1);
    bench.fetch(3).unwrap();
    let new = bench.connect();
    let (of_new, flights, _) = bench.sent().remove(0);
    assert_eq!(
        (flights, new > old),
        ([3].to_vec(), true),
        "the old batch takes no room on the new connection"
    );
    bench.reply(batch, &[0]);
    assert_eq!(bench.settled(), [(1, true)]);
    assert_eq!(bench.gone(old), Disposition::Stale, "nothing was left on it");
    assert!(bench.link.is_connected() && bench.link.wants(of_new));
}

#[test]
fn a_connection_that_takes_no_more_calls_is_redialled_while_its_answers_are_awaited() {
    let (mut bench, batch) = Bench::half_sent();
    let old = bench.drain();
    assert_eq!(bench.settled(), [(2, false)], "what was only queued is asked elsewhere");
    assert_eq!(bench.dials(), 1);
    assert_eq!(bench.fetch(3), Err(LinkRefused::Down), "who closes in order is about to stop");
    assert_eq!(bench.link.handle_draining(bench.now, old, &mut bench.out), Disposition::Stale);
    bench.connect();
    bench.now = bench.now.saturating_add(100 * MS);
    bench.fetch(4).unwrap();
    let (of_new, ..) = bench.sent()[0];
    assert_eq!(bench.gone(old), Disposition::Applied);
    assert_eq!(bench.settled(), [(1, false)], "the old connection takes its own with it, and no more");
    assert!(bench.link.wants(of_new) && !bench.link.wants(batch) && bench.link.is_connected());
}

#[test]
fn a_connection_that_breaks_may_have_brought_answers_that_are_still_being_read() {
    let (mut bench, batch) = Bench::half_sent();
    bench.now = bench.now.saturating_add(LinkConfig::default().connect_timeout);
    let old = bench.link.connection.unwrap();
    assert_eq!(bench.link.handle_lost(bench.now, old, &mut bench.out), Disposition::Applied);
    assert_eq!(bench.dials(), 1);
    bench.fetch(3).unwrap();
    assert!(bench.settled().is_empty(), "fetches wait for the redial");
    bench.reply(batch, &[0]);
    assert_eq!(bench.settled(), [(1, true)]);
    bench.connect();
    assert_eq!(bench.sent()[0].1, [2, 3]);
    assert_eq!(bench.gone(old), Disposition::Stale, "everything was read");
}

#[test]
fn a_dial_that_fails_does_not_break_what_drains() {
    let (mut bench, batch) = Bench::half_sent();
    bench.drain();
    bench.lose();
    assert!(!bench.link.is_up());
    assert!(bench.link.wants(batch));
    bench.settled();
    bench.reply(batch, &[0]);
    assert_eq!(bench.settled(), [(1, true)]);
    assert!(!bench.link.is_up(), "an old promise that is kept is not a connection");
    assert_eq!(bench.link.stats().opened, 1);
}

#[test]
fn how_a_draining_batch_ends_says_nothing_of_the_new_connection() {
    let mut bench = Bench::up(|config| config.failure_threshold = one(1));
    bench.fetch(1).unwrap();
    let (batch, ..) = bench.sent()[0];
    bench.drain();
    bench.connect();
    bench.close(batch, BatchEnd::Failed(None));
    assert_eq!(bench.settled(), [(1, false)]);
    assert!(bench.link.is_connected());
}

#[test]
fn a_peer_without_our_service_that_leaves_sends_its_keys_elsewhere() {
    let (mut bench, batch) = Bench::half_sent();
    bench.leave();
    bench.settled();
    bench.close(batch, BatchEnd::Unimplemented);
    assert_eq!(bench.settled(), [(1, false)]);
    assert_eq!(bench.forgets(), 1);
}

#[test]
fn what_is_heard_of_an_earlier_dial_is_stale() {
    let mut bench = Bench::new(|config| config.connect_timeout = 50 * MS);
    let first = bench.link.dialled.unwrap();
    bench.sleep_to_wake();
    bench.sleep_to_wake();
    assert_ne!(bench.link.dialled, Some(first), "it has dialled again");
    let connected = bench.link.handle_connected(bench.now, first, Protocol::Batched, &mut bench.out);
    assert_eq!(connected, Disposition::Stale);
    bench.connect();
    assert_eq!(bench.gone(first), Disposition::Stale);
    assert!(bench.link.is_connected());
    let second = bench.link.connection.unwrap();
    let again = bench.link.handle_connected(bench.now, second, Protocol::Batched, &mut bench.out);
    assert_eq!(again, Disposition::Stale, "twice");

    let later = Link::new((PEER, 1), "peer:1".into(), LinkConfig::default(), 3, bench.now, &mut bench.out);
    assert_ne!(later.dialled, Some(first), "a link made anew gives other numbers");
}

#[test]
fn what_was_in_flight_on_a_connection_that_is_gone_makes_room_for_what_waits() {
    let mut bench = Bench::up(|config| config.max_open_batches = one(1));
    bench.fetch(1).unwrap();
    assert_eq!(bench.sent().len(), 1);
    let old = bench.drain();
    bench.connect();
    bench.fetch(2).unwrap();
    assert!(bench.sent().is_empty(), "the one batch that may be open is on the old connection");
    bench.gone(old);
    assert_eq!(bench.settled(), [(1, false)]);
    assert_eq!(bench.sent()[0].1, [2]);
}

#[test]
fn a_peer_that_is_back_is_trusted_anew_whatever_its_breaker_was() {
    let mut bench = Bench::up(|config| config.failure_threshold = one(2));
    for n in 0..2 {
        bench.fetch(n).unwrap();
        let (batch, ..) = bench.sent()[0];
        bench.close(batch, BatchEnd::Failed(None));
    }
    bench.sleep_to_wake();
    bench.fetch(2).unwrap();
    let (probe, ..) = bench.sent()[0];
    bench.leave();
    assert_eq!(bench.come_back(), Disposition::Applied);
    bench.close(probe, BatchEnd::Failed(None));
    assert!(bench.link.is_connected(), "one failure of two");
}
