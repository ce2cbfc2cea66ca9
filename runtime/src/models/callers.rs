//! Callers of one node: joins, departures, removals, deadlines.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::sync::atomic::{AtomicU64, Ordering};

use super::rt::ModelRuntime;
use super::{check, numbered, time};
use crate::alarm::Alarm;
use crate::bell::Bell;
use crate::clock::Clock;
use crate::{ErrorKind, Group, OnAbandoned, RetrieveError, Server, ServerBuilder};
use groupcache_core::{Instant, Wake};

const LIMIT: Duration = Duration::from_secs(5);

/// A node that was not started, with one shard so that everybody meets, and its group `g`: values are the number of loads begun so far.
fn node(loads: &Arc<AtomicU64>, on_abandoned: OnAbandoned) -> (Server<ModelRuntime>, Group<ModelRuntime>) {
    time::reset();
    let server = ServerBuilder::new(Arc::new(ModelRuntime::default()))
        .shards(1)
        .on_abandoned(on_abandoned)
        .build()
        .expect("settings in range");
    let group = numbered(&server, loads);
    (server, group)
}

async fn value(group: &Group<ModelRuntime>, key: &str) -> String {
    group.get(key).await.expect("a value").to_str().expect("text").to_owned()
}

/// Nothing is left of what callers have begun: no flight, no waiter, no handle of a load.
async fn assert_idle(server: &Server<ModelRuntime>) {
    let usage = || {
        let stats = server.stats();
        (stats.get("flights"), stats.get("waiters"))
    };
    // Loads that nobody waits for are finished by tasks of their own. A flight that stays makes this the deadlock that the checker reports.
    while usage() != (Some(0), Some(0)) {
        yield_now().await;
    }
}

#[test]
fn callers_of_one_key_share_a_load() {
    check(400, || {
        let loads = Arc::default();
        let (server, group) = node(&loads, OnAbandoned::Finish);
        let callers = (0..3).map(|_| {
            let group = group.clone();
            spawn(async move { value(&group, "k").await })
        });
        let callers: Vec<_> = callers.collect();
        block_on(async {
            for value in join_all(callers).await {
                assert_eq!(value.expect("nobody panics"), "1");
            }
            assert_idle(&server).await;
        });
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_caller_that_leaves_at_any_moment_harms_nobody_and_leaves_nothing() {
    for on_abandoned in [OnAbandoned::Finish, OnAbandoned::Abort] {
        check(400, move || {
            let loads = Arc::default();
            let (server, group) = node(&loads, on_abandoned);
            let leaver = {
                let group = group.clone();
                spawn(async move {
                    let get = pin!(group.get("k"));
                    // Leaves after as many turns as the checker likes.
                    if let Either::Left((got, _)) = select(get, pin!(yield_now())).await {
                        got.expect("a value");
                    }
                })
            };
            let stayer = {
                let group = group.clone();
                spawn(async move { value(&group, "k").await })
            };
            block_on(async {
                let value = stayer.await.expect("nobody panics");
                leaver.await.expect("nobody panics");
                assert!(value == "1" || value == "2" && on_abandoned == OnAbandoned::Abort, "load {value}");
                assert_idle(&server).await;
            });
        });
    }
}

#[test]
fn callers_of_many_keys_share_loads_and_may_leave_at_any_moment() {
    check(400, || {
        let loads = Arc::default();
        let (server, group) = node(&loads, OnAbandoned::Finish);
        let leaver = {
            let group = group.clone();
            spawn(async move {
                let gets = pin!(group.get_many(&["a", "b"]));
                if let Either::Left((got, _)) = select(gets, pin!(yield_now())).await {
                    assert!(got.iter().all(Result::is_ok));
                }
            })
        };
        let stayer = {
            let group = group.clone();
            spawn(async move { group.get_many(&["b", "a", "b"]).await })
        };
        block_on(async {
            let got = stayer.await.expect("nobody panics").into_iter();
            let got: Vec<_> = got.map(|value| value.expect("a value").to_string()).collect();
            assert!(got[0] == got[2] && got[0] != got[1], "{got:?}");
            leaver.await.expect("nobody panics");
            assert_idle(&server).await;
        });
        assert_eq!(loads.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_load_that_hangs_ends_when_its_last_caller_leaves() {
    check(400, || {
        time::reset();
        let builder = ServerBuilder::new(Arc::new(ModelRuntime::default())).shards(1);
        let server: Server<ModelRuntime> =
            builder.on_abandoned(OnAbandoned::Abort).build().expect("settings in range");
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let hangs = move |_key: String| {
            let held = Arc::clone(&held);
            async move {
                let _held = held;
                std::future::pending::<Result<&'static str, RetrieveError>>().await
            }
        };
        let group = server.new_group("g", hangs).expect("a name that is free");
        let leavers = [0; 2].map(|_| {
            let group = group.clone();
            spawn(async move {
                let get = pin!(group.get("k"));
                assert!(matches!(select(get, pin!(yield_now())).await, Either::Right(_)), "it hangs");
            })
        });
        block_on(async {
            join_all(leavers).await;
            assert_idle(&server).await;
            // The retriever's future is dropped: only the retriever and this test hold it.
            while Arc::strong_count(&alive) > 2 {
                yield_now().await;
            }
        });
    });
}

#[test]
fn what_is_read_after_a_removal_was_loaded_after_it() {
    check(400, || {
        let loads = Arc::new(AtomicU64::new(0));
        let (_server, group) = node(&loads, OnAbandoned::Finish);
        let reader = {
            let group = group.clone();
            spawn(async move { value(&group, "k").await })
        };
        block_on(async {
            let before = loads.load(Ordering::SeqCst);
            let report = group.remove("k").await.expect("there is nobody else to tell");
            assert!(report.unacknowledged.is_empty());
            let loaded: u64 = value(&group, "k").await.parse().expect("the number of a load");
            assert!(loaded > before, "load {loaded} began before the removal, when there were {before}");
            reader.await.expect("nobody panics");
        });
    });
}

#[test]
fn a_flush_amid_loads_lets_none_of_before_in() {
    check(400, || {
        let loads = Arc::new(AtomicU64::new(0));
        let (_server, group) = node(&loads, OnAbandoned::Finish);
        let readers = ["a", "b"].map(|key| {
            let group = group.clone();
            spawn(async move { value(&group, key).await })
        });
        block_on(async {
            let before = loads.load(Ordering::SeqCst);
            group.flush().await.expect("there is nobody else to tell");
            for key in ["a", "b"] {
                let loaded: u64 = value(&group, key).await.parse().expect("the number of a load");
                assert!(
                    loaded > before,
                    "load {loaded} of {key} began before the flush, when there were {before}"
                );
            }
            join_all(readers).await;
        });
    });
}

#[test]
fn a_caller_whose_time_is_up_is_told_so_while_the_load_goes_on() {
    check(400, || {
        time::reset();
        let server = ServerBuilder::new(Arc::new(ModelRuntime::default())).shards(1).build();
        let server: Server<ModelRuntime> = server.expect("settings in range");
        let group = server.new_group("g", |_key: String| async {
            time::sleep(LIMIT * 2).await;
            Ok::<_, RetrieveError>("late")
        });
        let group = group.expect("a name that is free");
        let hasty = {
            let group = group.clone();
            spawn(async move { group.get_within("k", LIMIT).await })
        };
        let patient = spawn(async move { group.get("k").await });
        block_on(async {
            time::pass_until(|| hasty.is_finished() && patient.is_finished()).await;
            // Who is scheduled late finds the value there already, or finds that time has leapt beyond what a load may take.
            for got in [hasty.await, patient.await] {
                match got.expect("nobody panics") {
                    Ok(value) => assert_eq!(value.as_bytes(), b"late"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Deadline),
                }
            }
            assert_idle(&server).await;
        });
    });
}

#[test]
fn the_alarm_goes_off_at_the_earliest_of_what_is_wanted() {
    check(1_000, || {
        time::reset();
        let (alarm, clock) = (Arc::new(Alarm::new()), Clock::start());
        let sleeper = {
            let alarm = Arc::clone(&alarm);
            spawn(async move { alarm.wait(&ModelRuntime::default(), clock).await })
        };
        let want = |seconds| {
            let alarm = Arc::clone(&alarm);
            let at = Instant::from_nanos(Duration::from_secs(seconds).as_nanos() as u64);
            shuttle::thread::spawn(move || alarm.want(Wake::At(at)))
        };
        for wanted in [want(7), want(3), want(5)] {
            wanted.join().expect("nobody panics");
        }
        time::advance(Duration::from_secs(3));
        // A wake-up that is lost leaves nobody who could go on.
        block_on(sleeper).expect("nobody panics");
    });
}

#[test]
fn whoever_rings_while_a_task_has_its_turn_is_seen_by_it() {
    check(1_000, || {
        let (bell, seen) = (Bell::new(), Arc::new(AtomicU64::new(0)));
        let (sender, receiver) = shuttle::sync::mpsc::channel::<Waker>();
        let mut sender = Some(sender);
        let ringer = {
            let seen = Arc::clone(&seen);
            shuttle::thread::spawn(move || {
                let waker = receiver.recv().expect("the task hands out its waker");
                for _ in 0..3 {
                    seen.fetch_add(1, Ordering::SeqCst);
                    waker.wake_by_ref();
                }
            })
        };
        // A ring that is lost leaves nobody who could go on.
        block_on(std::future::poll_fn(|cx| {
            bell.turn(cx.waker(), |cx| {
                if let Some(sender) = sender.take() {
                    sender.send(cx.waker().clone()).expect("it is received");
                }
                if seen.load(Ordering::SeqCst) == 3 { Poll::Ready(()) } else { Poll::Pending }
            })
        }));
        ringer.join().expect("nobody panics");
    });
}
