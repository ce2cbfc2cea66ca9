//! What counts against a peer, and what does not.

use super::*;

impl Bench {
    /// A link that one failure takes down, with one fetch in flight. Answers its batch.
    fn touchy() -> (Self, BatchId) {
        let mut bench = Self::up(|config| config.failure_threshold = one(1));
        bench.fetch(1).unwrap();
        let (batch, ..) = bench.sent()[0];
        (bench, batch)
    }

    /// Whether each fetch that was settled may be asked elsewhere.
    fn elsewhere(&mut self) -> Vec<bool> {
        self.out.drain_settled().map(|settled| matches!(settled.outcome, Outcome::Unreachable(_))).collect()
    }
}

#[test]
fn a_peer_that_breaks_off_what_it_has_accepted_has_failed_and_its_keys_are_asked_elsewhere() {
    let (mut bench, batch) = Bench::touchy();
    bench.accept(batch);
    bench.close(batch, BatchEnd::Failed(None));
    assert_eq!(bench.elsewhere(), [true]);
    assert!(!bench.link.is_connected());
}

#[test]
fn a_peer_that_accepted_nothing_has_failed_however_late_that_is_heard() {
    let (mut bench, batch) = Bench::touchy();
    bench.now = bench.now.saturating_add(1000 * MS);
    bench.close(batch, BatchEnd::Failed(None));
    assert_eq!(bench.elsewhere(), [true]);
    assert!(!bench.link.is_connected());
}

#[test]
fn of_a_batch_that_breaks_off_only_what_has_time_left_is_asked_elsewhere() {
    let mut bench = Bench::new(|_| {});
    for (n, ms) in [(1, 10), (2, 1000)] {
        let item = item(n, bench.now.saturating_add(ms * MS));
        bench.link.fetch(bench.now, item, &mut bench.out).unwrap();
    }
    bench.connect();
    let (batch, ..) = bench.sent()[0];
    bench.accept(batch);
    bench.now = bench.now.saturating_add(10 * MS);
    bench.close(batch, BatchEnd::Failed(None));
    assert_eq!(bench.elsewhere(), [false, true], "the peer was at work on the first until its time was up");
    assert_eq!(bench.link.stats().failed_batches, 1);
}

#[test]
fn silence_on_a_connection_that_takes_no_more_calls_says_nothing_of_the_new_one() {
    let (mut bench, batch) = Bench::touchy();
    bench.now = bench.now.saturating_add(LinkConfig::default().connect_timeout);
    let old = bench.link.connection.expect("a connection");
    bench.link.handle_draining(bench.now, old, &mut bench.out);
    bench.connect();
    bench.sleep_to_wake();
    assert_eq!((bench.elsewhere(), bench.link.wants(batch)), (vec![true], false));
    assert!(bench.link.is_connected());
    assert_eq!(bench.link.stats().failed_batches, 0);
}

#[test]
fn a_peer_without_either_service_has_failed_and_is_not_asked_again() {
    let mut bench = Bench::new(|_| {});
    let dial = bench.link.dialled.expect("a dial");
    bench.link.handle_connected(bench.now, dial, Protocol::Single, &mut bench.out);
    bench.fetch(1).unwrap();
    let (batch, ..) = bench.sent()[0];
    bench.close(batch, BatchEnd::Unimplemented);
    assert_eq!((bench.elsewhere(), bench.sent().len()), (vec![true], 0));
    assert_eq!(bench.link.stats().failed_batches, 1);
}

#[test]
fn a_peer_that_is_asked_one_key_a_call_has_a_window_of_its_own() {
    let mut bench = Bench::new(|config| (config.window, config.single_window) = (one(1), one(3)));
    let dial = bench.link.dialled.expect("a dial");
    bench.link.handle_connected(bench.now, dial, Protocol::Single, &mut bench.out);
    for n in 0..5 {
        bench.fetch(n).unwrap();
    }
    let sent: Vec<_> = bench.sent().into_iter().map(|(_, flights, _)| flights).collect();
    assert_eq!(sent, [[0], [1], [2]]);
}

#[test]
fn keys_that_an_old_connection_gives_back_wait_behind_the_probe() {
    let mut bench = Bench::new(|config| config.failure_threshold = one(1));
    bench.fetch(1).unwrap();
    bench.fetch(2).unwrap();
    let old = bench.connect();
    let (given_back, ..) = bench.sent()[0];
    bench.now = bench.now.saturating_add(LinkConfig::default().connect_timeout);
    bench.link.handle_draining(bench.now, old, &mut bench.out);
    let dial = bench.link.dialled.expect("a dial");
    bench.link.handle_connected(bench.now, dial, Protocol::Single, &mut bench.out);
    bench.fetch(3).unwrap();
    let (failing, ..) = bench.sent()[0];
    bench.close(failing, BatchEnd::Failed(None));
    bench.sleep_to_wake();
    bench.close(given_back, BatchEnd::Unimplemented);
    let probe = bench.sent();
    assert_eq!((probe.len(), &probe[0].1), (1, &[1].to_vec()));
    bench.accept(probe[0].0);
    assert_eq!(bench.sent()[0].1, [2]);
}

#[test]
fn the_end_of_an_old_connection_does_not_end_the_new_one_however_long_that_has_lasted() {
    let (mut bench, batch) = Bench::touchy();
    let later = item(2, bench.now.saturating_add(60_000 * MS));
    bench.accept(batch);
    bench.link.fetch(bench.now, later, &mut bench.out).unwrap();
    bench.now = bench.now.saturating_add(LinkConfig::default().connect_timeout);
    let old = bench.link.connection.expect("a connection");
    bench.link.handle_draining(bench.now, old, &mut bench.out);
    let new = bench.connect();
    bench.now = bench.now.saturating_add(2 * LinkConfig::default().connect_timeout);
    bench.out.drain_intents();
    assert_eq!(bench.link.handle_disconnected(bench.now, old, None, &mut bench.out), Disposition::Applied);
    assert_eq!((bench.link.connection, bench.dials()), (Some(new), 0));
    assert!(bench.link.is_connected());
}

#[test]
fn connections_that_go_as_soon_as_they_are_made_are_dialled_with_backoff_in_whatever_way_they_go() {
    for in_order in [false, true] {
        let mut bench = Bench::up(|_| {});
        let dial = bench.link.connection.expect("a connection");
        if in_order {
            bench.link.handle_draining(bench.now, dial, &mut bench.out);
        } else {
            bench.link.handle_lost(bench.now, dial, &mut bench.out);
        }
        assert_eq!((bench.dials(), bench.fetch(1)), (0, Err(LinkRefused::Down)));
        bench.sleep_to_wake();
        assert_eq!(bench.dials(), 1);
    }
}

#[test]
fn a_dial_that_fails_after_it_was_given_up_does_not_put_the_next_one_off() {
    let mut bench = Bench::new(|config| config.connect_timeout = 50 * MS);
    bench.sleep_to_wake();
    let wake = bench.link.next_wake();
    bench.now = bench.now.saturating_add(MS);
    bench.lose();
    assert_eq!(bench.link.next_wake(), wake);
    assert_eq!(bench.link.stats().opened, 1);
}
