//! Models of this crate's locking and waiting, for a checker that tries interleavings of tasks and threads and finds deadlocks:
//!
//!     RUSTFLAGS="--cfg shuttle" cargo test --lib -p groupcache-runtime --target-dir target/shuttle models
//!
//! Everything here is the real engine on a runtime of the checker's tasks, with virtual time and, between nodes, connections in memory. A model is a
//! closure that the checker runs many times; what it asserts must hold in each. A lost wake-up shows as a deadlock: nobody is left who could go on.

// Built without the tests as well, since the clock is here.
#![cfg_attr(not(test), allow(dead_code))]

pub(crate) mod time;

#[cfg(test)]
mod callers;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod life;
#[cfg(test)]
mod network;
#[cfg(test)]
mod rt;

#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
use shuttle::scheduler::{PctScheduler, RandomScheduler};
#[cfg(test)]
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// The schedules are the same in every run.
#[cfg(test)]
const SEED: u64 = 0x5eed;

/// Runs `model` under a number of schedules: half of them at random, half with a few deliberate preemptions, which finds other bugs
/// (Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs", 2010).
///
/// `GROUPCACHE_SCHEDULES=100`, while this is compiled, makes it a hundred times as many.
#[cfg(test)]
fn check(schedules: usize, model: impl Fn() + Send + Sync + 'static) {
    let times = option_env!("GROUPCACHE_SCHEDULES")
        .map_or(1, |times| times.parse().expect("GROUPCACHE_SCHEDULES is a number"));
    let schedules = schedules * times;
    let model = Arc::new(model);
    let again = Arc::clone(&model);
    Runner::new(RandomScheduler::new_from_seed(SEED, schedules), config()).run(move || model());
    Runner::new(PctScheduler::new_from_seed(SEED, 3, schedules), config()).run(move || again());
}

#[cfg(test)]
fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.failure_persistence = FailurePersistence::Print;
    config.max_steps = MaxSteps::FailAfter(1_000_000);
    config
}

/// The group `g` of a node: values are the number of the load that they come from.
#[cfg(test)]
fn numbered(
    server: &crate::Server<rt::ModelRuntime>,
    loads: &Arc<shuttle::sync::atomic::AtomicU64>,
) -> crate::Group<rt::ModelRuntime> {
    use shuttle::sync::atomic::Ordering;
    let loads = Arc::clone(loads);
    let group = server.new_group("g", move |_key: String| {
        let loads = Arc::clone(&loads);
        async move {
            let number = loads.fetch_add(1, Ordering::SeqCst) + 1;
            shuttle::future::yield_now().await;
            Ok::<_, crate::RetrieveError>(number.to_string())
        }
    });
    group.expect("a name that is free")
}
