//! Starts, stops, and groups that come and go.

use std::sync::Arc;

use futures_util::future::join_all;
use shuttle::future::{JoinHandle, block_on, spawn, yield_now};

use super::rt::ModelRuntime;
use super::{check, time};
use crate::{ErrorKind, GroupError, RetrieveError, Server, ServerBuilder, Status};

fn server() -> Server<ModelRuntime> {
    time::reset();
    let server = ServerBuilder::new(Arc::new(ModelRuntime::default())).shards(2);
    server.addr("127.0.0.1:1").build().expect("settings in range")
}

async fn loaded(key: String) -> Result<String, RetrieveError> {
    yield_now().await;
    Ok(key)
}

#[test]
fn a_stop_amid_gets_serves_each_or_says_that_it_stops() {
    check(300, || {
        let server = server();
        let group = server.new_group("g", loaded).expect("a name that is free");
        let callers = ["a", "a", "b"].map(|key| {
            let group = group.clone();
            spawn(async move { (key, group.get(key).await) })
        });
        let stopped = {
            let server = server.clone();
            spawn(async move { server.stop().await })
        };
        block_on(async {
            time::pass_until(|| stopped.is_finished()).await;
            for got in join_all(callers).await {
                match got.expect("nobody panics") {
                    (key, Ok(value)) => assert_eq!(value.as_bytes(), key.as_bytes()),
                    // Time may pass by leaps here, beyond what a load may take.
                    (_, Err(error)) => {
                        assert!(matches!(error.kind(), ErrorKind::Stopping | ErrorKind::Deadline))
                    }
                }
            }
        });
        let stats = server.stats();
        assert_eq!((stats.get("flights"), stats.get("waiters")), (Some(0), Some(0)));
    });
}

#[test]
fn a_removal_amid_a_stop_comes_to_an_end() {
    check(300, || {
        let server = server();
        let group = server.new_group("g", loaded).expect("a name that is free");
        let removed = spawn(async move { group.remove("a").await });
        let stopped = spawn(async move { server.stop().await });
        block_on(async {
            time::pass_until(|| stopped.is_finished() && removed.is_finished()).await;
            if let Err(error) = removed.await.expect("nobody panics") {
                assert_eq!(error.kind(), ErrorKind::Stopping);
            }
        });
    });
}

#[test]
fn starts_and_stops_in_any_order_end_in_a_stopped_node() {
    check(150, || {
        let server = server();
        let starts = [0; 2].map(|_| {
            let server = server.clone();
            spawn(async move { server.start().await.is_ok() })
        });
        let stops = [0; 2].map(|_| {
            let server = server.clone();
            spawn(async move { server.stop().await })
        });
        block_on(async {
            let all =
                || starts.iter().all(JoinHandle::is_finished) && stops.iter().all(JoinHandle::is_finished);
            time::pass_until(all).await;
            let started =
                join_all(starts).await.into_iter().filter(|started| *started.as_ref().expect("no panic"));
            assert!(started.count() <= 1, "a node starts once");
        });
        assert_eq!(server.status(), Status::Stopped);
    });
}

#[test]
fn groups_made_and_destroyed_at_the_same_time_are_there_or_not() {
    check(400, || {
        let server = server();
        let changes = [true, false, true].map(|make| {
            let server = server.clone();
            shuttle::thread::spawn(move || match make {
                true => match server.new_group("g", loaded) {
                    Ok(_) | Err(GroupError::Exists(_)) => {}
                    Err(other) => panic!("{other}"),
                },
                false => drop(server.destroy_group("g")),
            })
        });
        for change in changes {
            change.join().expect("nobody panics");
        }
        block_on(async {
            // Whatever the outcome, the group is whole: in all shards, or in none.
            for key in ["a", "b", "c", "d"] {
                match server.group("g") {
                    Some(group) => {
                        assert_eq!(group.get(key).await.expect("a value").as_bytes(), key.as_bytes())
                    }
                    None => assert!(server.new_group("g", loaded).is_ok(), "it can be made again"),
                }
            }
        });
    });
}

#[test]
fn a_group_that_is_found_is_whole() {
    check(400, || {
        let server = server();
        let maker = {
            let server = server.clone();
            spawn(async move { server.new_group("g", loaded).map(drop) })
        };
        block_on(async {
            loop {
                if let Some(group) = server.group("g") {
                    for key in ["a", "b", "c", "d"] {
                        assert_eq!(group.get(key).await.expect("a value").as_bytes(), key.as_bytes());
                    }
                    break;
                }
                yield_now().await;
            }
            maker.await.expect("nobody panics").expect("a name that is free");
        });
    });
}
