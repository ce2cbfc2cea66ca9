//! What the rest of a fleet notices when a member dies, freezes or comes back, and when the registry does.
//!
//! Times are measured against "the origin's own time": a client that asks the origin directly, on the same machine at the same moment.

use std::env;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use groupcache_tests::http::{Client, path};
use groupcache_tests::{
    Fleet, Load, Membership, NodeOptions, Origin, Sample, Signal, ensure, percentile, poll_until, value_of,
};

const CLIENTS: usize = 50;
const ORIGIN_TIME: Duration = Duration::from_millis(50);
/// No request may take longer, whatever dies.
const LONGEST: Duration = Duration::from_secs(2);
/// After this time the survivors have routed round the dead member, ...
const ROUTED_ROUND: Duration = Duration::from_secs(1);
/// ... and no request takes longer than the origin and this.
const OVERHEAD: Duration = Duration::from_millis(100);

#[test]
fn peers_bridge_the_kill_of_an_owner_and_give_its_keys_back() {
    let _quiet = quiet();
    the_kill_of_an_owner_is_bridged(Membership::Peers);
}

#[test]
fn etcd_members_bridge_the_kill_of_an_owner_and_give_its_keys_back() {
    let _quiet = quiet();
    the_kill_of_an_owner_is_bridged(Membership::Etcd);
}

#[test]
fn an_owner_that_freezes_bounds_every_request_and_is_routed_round() {
    let _quiet = quiet();
    let origin = Origin::start();
    let mut fleet = fleet(Membership::Peers, &origin, &["--load-timeout", "5s"]);
    let frozen = 2;
    let keys = keys_of(&fleet, frozen, 20);
    let addresses = [fleet[0].http(), fleet[1].http()];
    fleet[frozen].signal(Signal::Stop);

    let started = Instant::now();
    thread::scope(|scope| {
        for (index, keys) in keys.chunks(5).enumerate() {
            scope.spawn(move || {
                for key in keys {
                    let asked = Instant::now();
                    let answer = Client::new(addresses[index % 2]).request("GET", &path("web", key));
                    let status = answer.map(|answer| answer.status).expect("an answer, be it an error");
                    assert!([200, 503, 504].contains(&status), "{status} for {key}");
                    assert!(asked.elapsed() < Duration::from_secs(6), "{:?} for {key}", asked.elapsed());
                }
            });
        }
    });
    eprintln!("20 keys of a frozen owner took {:?}", started.elapsed());
    // From now on it costs nothing: nobody waits for it any more but one probe at a time.
    for key in &keys {
        let answer =
            Client::new(addresses[0]).request("GET", &path("web", key)).expect("an answer").expect(200);
        assert_eq!(answer.body, value_of(key));
        assert!(answer.took < Duration::from_secs(2), "{:?} for {key}", answer.took);
    }
    fleet[frozen].signal(Signal::Continue);
    owns_again(&fleet, frozen);
}

/// Not under `quiet`: it is mostly waiting, and nothing in it is measured below a second.
#[test]
fn an_outage_of_etcd_interrupts_nothing() {
    let outage = Duration::from_secs(if env::var_os("GROUPCACHE_LONG").is_some() { 120 } else { 30 });
    let origin = Origin::start();
    let mut fleet = fleet(Membership::Etcd, &origin, &["--ttl", "2s"]);
    let records = fleet.etcd().records();
    assert_eq!(records.len(), 3);
    let addresses: Vec<SocketAddr> = fleet.iter().map(|node| node.http()).collect();
    let load = Load::start(9, Duration::from_millis(100), |client| reader(addresses[client % 3], client, 30));

    fleet.etcd().kill();
    let killed = Instant::now();
    while killed.elapsed() < outage {
        for node in fleet.iter() {
            assert_eq!(node.ring().members.len(), 3, "after {:?} without etcd", killed.elapsed());
            assert_eq!(
                node.request("GET", "/-/readyz").status,
                200,
                "after {:?} without etcd",
                killed.elapsed()
            );
        }
        thread::sleep(Duration::from_millis(500));
    }
    fleet.etcd().restart();
    // Longer than a lease: who did not take up its keep-alives again would be gone at the end.
    let restarted = Instant::now();
    while restarted.elapsed() < Duration::from_secs(8) {
        for node in fleet.iter() {
            assert_eq!(node.ring().members.len(), 3, "{:?} after etcd came back", restarted.elapsed());
        }
        thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(fleet.etcd().records(), records);
    let samples = load.finish();
    report("an outage of etcd", &samples);
    none_failed(&samples);
}

#[test]
fn an_etcd_that_freezes_interrupts_nothing() {
    let origin = Origin::start();
    let mut fleet = fleet(Membership::Etcd, &origin, &["--ttl", "2s"]);
    let records = fleet.etcd().records();
    let addresses: Vec<SocketAddr> = fleet.iter().map(|node| node.http()).collect();
    let load = Load::start(9, Duration::from_millis(100), |client| reader(addresses[client % 3], client, 30));
    fleet.etcd().signal(Signal::Stop);
    // Twice as long as a lease lives.
    let frozen = Instant::now();
    while frozen.elapsed() < Duration::from_secs(11) {
        for node in fleet.iter() {
            assert_eq!(node.ring().members.len(), 3, "after {:?} of a frozen etcd", frozen.elapsed());
        }
        thread::sleep(Duration::from_millis(500));
    }
    fleet.etcd().signal(Signal::Continue);
    // An etcd that wakes may expire the leases before it takes the keep-alives: then the records are put again.
    poll_until("the records are back", Duration::from_secs(15), || {
        let now = fleet.etcd.as_ref().map(groupcache_tests::Etcd::records).unwrap_or_default();
        ensure(now == records, || format!("etcd holds {now:?}"))
    });
    fleet.wait_whole();
    let samples = load.finish();
    report("a frozen etcd", &samples);
    none_failed(&samples);
}

fn the_kill_of_an_owner_is_bridged(membership: Membership) {
    let origin = Origin::start();
    // Values live so briefly that the owner is asked over and over, not only hot copies.
    let mut fleet = fleet(membership, &origin, &["--ttl", "300ms"]);
    let victim = 1;
    let keys = Arc::new(keys_of(&fleet, victim, 60));
    origin.set_delay(ORIGIN_TIME);
    let survivors = [fleet[0].http(), fleet[2].http()];
    let control = Load::start(1, Duration::from_millis(5), |_| direct(origin.address()));
    let load = Load::start(CLIENTS, Duration::from_millis(40), |client| {
        let (keys, mut turn) = (Arc::clone(&keys), client * 7);
        let mut connection = Client::new(survivors[client % 2]);
        move || {
            turn += 1;
            ask(&mut connection, &keys[turn % keys.len()])
        }
    });
    thread::sleep(Duration::from_secs(1));
    let killed = Instant::now();
    fleet[victim].kill();
    // For etcd: beyond the end of the lease, so that the ring's change is within the measured time.
    thread::sleep(Duration::from_secs(if membership == Membership::Etcd { 8 } else { 5 }));
    let (samples, control) = (load.finish(), control.finish());
    report("before the kill", samples.iter().filter(|sample| sample.ended() < killed));
    report("the first second", samples.iter().filter(|sample| in_first_second(sample, killed)));
    report("after it", samples.iter().filter(|sample| sample.started >= killed + ROUTED_ROUND));
    none_failed(&samples);
    let before = samples.iter().filter(|sample| sample.ended() < killed).count();
    assert!(
        before > 100 && samples.len() > 2 * before,
        "{before} of {} requests before the kill",
        samples.len()
    );
    for sample in samples.iter().filter(|sample| sample.started >= killed + ROUTED_ROUND) {
        let bound = origins_own_time(&control, sample) + OVERHEAD;
        let since = sample.started - killed;
        assert!(sample.took <= bound, "{since:?} after the kill: {:?}, over {bound:?}", sample.took);
    }
    fleet[victim].restart();
    fleet.wait_whole();
    owns_again(&fleet, victim);
}

fn fleet(membership: Membership, origin: &Origin, args: &[&str]) -> Fleet {
    Fleet::start(3, membership, &NodeOptions::new().group("web", &origin.url()).args(args))
}

/// Tests that measure milliseconds take turns: on two cores two fleets under load measure each other.
fn quiet() -> MutexGuard<'static, ()> {
    static QUIET: Mutex<()> = Mutex::new(());
    QUIET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `count` keys that the node owns, by the word of another.
fn keys_of(fleet: &Fleet, owner: usize, count: usize) -> Vec<String> {
    let mut client = Client::new(fleet[0].http());
    let candidates = (0..count * 20).map(|index| format!("key {index}"));
    let keys: Vec<String> = candidates
        .filter(|key| {
            let answer = client.get("web", key).expect("an answer").expect(200);
            answer.owner() == fleet[owner].addr()
        })
        .take(count)
        .collect();
    assert_eq!(keys.len(), count, "{} owns about a third of all keys", fleet[owner].addr());
    // They are to be asked for anew, with nothing kept from the search.
    for key in &keys {
        assert!((200..300).contains(&fleet[0].request("DELETE", &path("web", key)).status));
    }
    keys
}

/// One read, with everything about the answer checked.
fn ask(client: &mut Client, key: &str) -> Result<(), String> {
    let answer = client.get("web", key).map_err(|error| format!("{key}: {error}"))?;
    if answer.status != 200 {
        return Err(format!("{key}: {} {}", answer.status, answer.text()));
    }
    ensure(answer.body == value_of(key), || format!("{key}: another value: {}", answer.text()))
}

/// A client that goes through `keys` keys for ever.
fn reader(
    address: SocketAddr,
    seed: usize,
    keys: usize,
) -> impl FnMut() -> Result<(), String> + Send + 'static {
    let (mut connection, mut turn) = (Client::new(address), seed * 7);
    move || {
        turn += 1;
        ask(&mut connection, &format!("key {}", turn % keys))
    }
}

/// The control: the origin, asked with no cache in between.
fn direct(address: SocketAddr) -> impl FnMut() -> Result<(), String> + Send + 'static {
    let mut connection = Client::new(address);
    move || {
        let answer =
            connection.request("GET", &Origin::path("control")).map_err(|error| error.to_string())?;
        ensure(answer.status == 200, || answer.text())
    }
}

/// How long the origin took for whoever asked it directly while `sample` was under way.
fn origins_own_time(control: &[Sample], sample: &Sample) -> Duration {
    let overlaps = |own: &&Sample| own.started <= sample.ended() && own.ended() >= sample.started;
    control.iter().filter(overlaps).map(|own| own.took).max().unwrap_or(ORIGIN_TIME)
}

fn in_first_second(sample: &Sample, killed: Instant) -> bool {
    sample.ended() >= killed && sample.started < killed + ROUTED_ROUND
}

#[track_caller]
fn none_failed(samples: &[Sample]) {
    let failures: Vec<&str> = samples.iter().filter_map(|sample| sample.failure.as_deref()).collect();
    let some = &failures[..failures.len().min(5)];
    assert!(failures.is_empty(), "{} of {} requests failed: {some:?}", failures.len(), samples.len());
    let longest = samples.iter().map(|sample| sample.took).max().unwrap_or_default();
    assert!(longest <= LONGEST, "a request took {longest:?}");
}

fn report<'a>(what: &str, samples: impl IntoIterator<Item = &'a Sample>) {
    let took: Vec<Duration> = samples.into_iter().map(|sample| sample.took).collect();
    let [half, most, all] = [50.0, 99.0, 100.0].map(|percent| percentile(took.iter().copied(), percent));
    eprintln!("{what}: {} requests, p50 {half:?}, p99 {most:?}, longest {all:?}", took.len());
}

/// Waits until the node serves its keys to the others again.
fn owns_again(fleet: &Fleet, owner: usize) {
    let (mut turn, before) = (0, fleet[owner].stat("served"));
    let other = usize::from(owner == 0);
    poll_until("the others ask the owner again", Duration::from_secs(15), || {
        turn += 1;
        let key = format!("after the return {turn}");
        let answer = fleet[other].get("web", &key).expect(200);
        assert_eq!(answer.body, value_of(&key));
        let own = answer.owner() == fleet[owner].addr() && answer.level() == "peer";
        ensure(own && fleet[owner].stat("served") > before, || {
            format!("{} by {}", answer.level(), answer.owner())
        })
    });
}
