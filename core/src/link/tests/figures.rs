//! What a link tells of itself.

use super::*;

#[test]
fn a_link_says_how_it_stands_and_what_waits() {
    let mut bench = Bench::on_demand();
    assert_eq!(bench.link.state(), LinkState::Idle);
    bench.fetch(1).unwrap();
    assert_eq!(
        (bench.link.state(), bench.link.queued(), bench.link.open_batches()),
        (LinkState::Dialling, 1, 0)
    );
    bench.connect();
    assert_eq!((bench.link.state(), bench.link.queued(), bench.link.open_batches()), (LinkState::Up, 0, 1));
    bench.link.handle_left(bench.now, &mut bench.out);
    assert_eq!(bench.link.state(), LinkState::Leaving);
    bench.link.close(bench.now, &mut bench.out);
    assert_eq!(bench.link.state(), LinkState::Closed);
}

#[test]
fn a_breaker_that_is_open_shows_and_so_do_redial_and_probe() {
    let mut bench = Bench::up(|config| config.failure_threshold = NonZeroU32::MIN);
    bench.fetch(1).unwrap();
    let (batch, ..) = bench.sent()[0];
    bench.close(batch, BatchEnd::Failed(None));
    assert_eq!(bench.link.state(), LinkState::Down);
    bench.sleep_to_wake();
    assert_eq!(bench.link.state(), LinkState::Probing, "the connection is still there");
    let dial = bench.link.connection.expect("a connection");
    bench.link.handle_disconnected(bench.now, dial, None, &mut bench.out);
    assert_eq!(bench.link.state(), LinkState::Down);
    bench.sleep_to_wake();
    assert_eq!(bench.link.state(), LinkState::Redialling);
}

#[test]
fn every_state_has_a_name_of_its_own() {
    let mut names = LinkState::ALL.map(LinkState::name);
    assert_eq!(names[0], "up");
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}
