//! How fetches are put into batches, and what is told of a link.

use super::*;

fn batches_of(configure: impl FnOnce(&mut LinkConfig), keys: &[u32]) -> Vec<Vec<u32>> {
    let mut bench = Bench::new(|config| {
        config.window = one(10);
        configure(config);
    });
    for &n in keys {
        bench.fetch(n).unwrap();
    }
    bench.connect();
    bench.sent().into_iter().map(|(_, flights, _)| flights).collect()
}

#[test]
fn batches_are_bounded_by_keys_and_by_bytes() {
    let by_keys = batches_of(|config| config.max_batch_keys = one(3), &[1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(by_keys, [[1, 2, 3].to_vec(), [4, 5, 6].to_vec(), [7].to_vec()]);
    let two_bytes = core::num::NonZeroUsize::new(2).unwrap();
    let by_bytes = batches_of(|config| config.max_batch_bytes = two_bytes, &[1, 2, 3, 100, 4]);
    assert_eq!(by_bytes, [[1, 2].to_vec(), [3].to_vec(), [100].to_vec(), [4].to_vec()]);
}

#[test]
fn no_more_batches_are_open_than_may_be_however_readily_the_peer_accepts_them() {
    let mut bench = Bench::up(|config| config.max_open_batches = one(2));
    for n in 1..4 {
        bench.fetch(n).unwrap();
        if let Some((batch, ..)) = bench.sent().pop() {
            bench.accept(batch);
        }
    }
    assert_eq!((bench.link.stats().batches, bench.link.queue.len()), (2, 1));
}

#[test]
fn of_a_batch_what_has_run_out_of_time_is_given_up_and_the_rest_is_waited_for() {
    let mut bench = Bench::new(|_| {});
    let start = bench.now;
    let at = |ms: u32| start.saturating_add(ms * MS);
    for (n, ms) in [(1, 30), (2, 10), (3, 20)] {
        bench.link.fetch(bench.now, item(n, at(ms)), &mut bench.out).unwrap();
    }
    bench.connect();
    let (batch, ..) = bench.sent()[0];
    for (n, ms) in [(2, 10), (3, 20), (1, 30)] {
        assert!(bench.link.wants(batch));
        assert_eq!(bench.link.next_wake(), Wake::At(at(ms)));
        bench.sleep_to_wake();
        assert_eq!((bench.settled(), bench.now), (vec![(n, false)], at(ms)));
    }
    assert!(!bench.link.wants(batch));
}

#[test]
fn a_time_out_that_comes_late_still_gives_back_all_that_has_run_out_of_time() {
    let mut bench = Bench::up(|config| config.window = one(1));
    bench.fetch(1).unwrap();
    bench.sent();
    for (n, ms) in [(2, 10), (3, 4000), (4, 20)] {
        let item = item(n, bench.now.saturating_add(ms * MS));
        bench.link.fetch(bench.now, item, &mut bench.out).unwrap();
    }
    bench.now = bench.now.saturating_add(500 * MS);
    let _ = bench.link.handle_timeout(bench.now, &mut bench.out);
    assert_eq!(bench.settled(), [(2, false), (4, false)]);
    assert_eq!(bench.link.stats().unanswered, 2);
}

#[test]
fn a_link_that_is_behind_its_time_wants_to_be_called_at_once() {
    let mut bench = Bench::new(|config| config.connect_timeout = 50 * MS);
    bench.now = bench.now.saturating_add(50 * MS);
    assert_eq!(bench.link.cancel(bench.now, flight(9), &mut bench.out), Disposition::Stale);
    assert_eq!(bench.link.next_wake(), Wake::Now);
    let wake = bench.link.handle_timeout(bench.now, &mut bench.out);
    assert!(matches!(wake, Wake::At(at) if at > bench.now), "{wake:?}");
}

#[test]
fn a_link_says_whose_it_is_and_whether_its_first_dial_is_under_way() {
    let mut bench = Bench::new(|_| {});
    assert_eq!((bench.link.peer(), &**bench.link.name()), (PEER, "peer:1"));
    assert!(bench.link.is_first_dial() && !bench.link.is_leaving() && !bench.link.is_closed());
    bench.connect();
    assert!(!bench.link.is_first_dial(), "it has succeeded");
    bench.lose_in_time();
    assert!(!bench.link.is_first_dial(), "it is the second");
    assert_eq!(bench.link.dialled.map(DialId::sequence), Some(1));
}

#[test]
fn batches_are_numbered_in_the_order_in_which_they_are_sent() {
    let mut bench = Bench::up(|_| {});
    let sent: Vec<u64> = (0..3)
        .map(|n| {
            bench.fetch(n).unwrap();
            let (batch, ..) = bench.sent()[0];
            bench.accept(batch);
            batch.sequence()
        })
        .collect();
    assert_eq!(sent, [0, 1, 2]);
}

#[test]
fn what_became_of_every_key_is_counted() {
    let mut bench = Bench::new(|config| {
        config.window = one(1);
        config.max_queue = one(2);
        config.failure_threshold = one(2);
    });
    bench.fetch(1).unwrap();
    bench.fetch(2).unwrap();
    assert!(bench.fetch(3).is_err(), "the queue is full");
    bench.connect();
    let (batch, ..) = bench.sent()[0];
    bench.reply(batch, &[0, 0]);
    bench.close(batch, BatchEnd::Failed(None));
    bench.fetch(4).unwrap();
    bench.sleep_to_wake();
    assert!(bench.fetch(5).is_err(), "the second failure in a row: down");
    bench.lose();
    bench.sleep_to_wake();
    bench.connect();
    bench.fetch(6).unwrap();
    let in_a_hurry = item(7, bench.now.saturating_add(10 * MS));
    bench.link.fetch(bench.now, in_a_hurry, &mut bench.out).unwrap();
    bench.sleep_to_wake();
    bench.fetch(8).unwrap();
    bench.lose();
    let expected = LinkStats {
        keys: 4,
        batches: 3,
        failed_batches: 2,
        unanswered: 5,
        refused_down: 1,
        refused_full: 1,
        opened: 3,
        dials: 2,
        stale: 1,
    };
    assert_eq!(bench.link.stats(), expected);
    let settled = bench.settled();
    assert_eq!(settled.iter().filter(|(_, answered)| *answered).count(), 1);
    assert_eq!(settled.len(), 6, "each key that was taken, once");
}

#[test]
fn the_figures_of_links_add_up() {
    let figures = |n: u64| LinkStats {
        keys: n,
        batches: 10 + n,
        failed_batches: 20 + n,
        unanswered: 30 + n,
        refused_down: 40 + n,
        refused_full: 50 + n,
        opened: 60 + n,
        dials: 70 + n,
        stale: 80 + n,
    };
    let mut sum = figures(3);
    sum.add(&figures(4));
    let expected = LinkStats {
        keys: 7,
        batches: 27,
        failed_batches: 47,
        unanswered: 67,
        refused_down: 87,
        refused_full: 107,
        opened: 127,
        dials: 147,
        stale: 167,
    };
    assert_eq!(sum, expected);
}
