//! Callers that ask one question after the other, so many at a time, for so long.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::time::{ClockId, clock_gettime};

use super::super::host::Host;

/// Something that can be asked for values. A clone is the same.
pub(super) trait Asker: Clone + Send + Sync + 'static {
    /// Gets the values of `keys`: one, or as many as a batch has.
    ///
    /// # Panics
    /// When a value does not come, or is not what it should be.
    fn ask(&self, keys: &[String]) -> impl Future<Output = ()> + Send;
}

/// How much is asked at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Questions that are open at a time.
    pub(super) in_flight: usize,
    /// Keys of each.
    pub(super) keys: usize,
    pub(super) time: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Burst {
    pub(super) asked: u64,
    pub(super) wall: Duration,
    /// Of each question, in nanoseconds, ascending.
    pub(super) latencies: Vec<u32>,
}

/// Asks for `keys`, round and round, as `load` says. `place` is where the burst before has ended: so a key comes up again as late as can be.
pub(super) fn burst<A: Asker>(
    host: Host,
    asker: &A,
    keys: &Arc<[String]>,
    place: &Arc<AtomicUsize>,
    load: Load,
) -> Burst {
    let began = Instant::now();
    let until = began + load.time;
    let callers: Vec<_> = (0..load.in_flight)
        .map(|_| {
            let (asker, keys, place) = (asker.clone(), Arc::clone(keys), Arc::clone(place));
            host.spawn(async move {
                let mut latencies = Vec::with_capacity(4096);
                loop {
                    let asked = Instant::now();
                    if asked >= until {
                        return latencies;
                    }
                    let from = place.fetch_add(load.keys, Ordering::Relaxed) % keys.len();
                    asker.ask(&keys[from..from + load.keys]).await;
                    latencies.push(u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX));
                }
            })
        })
        .collect();
    let mut latencies = host.block_on(join_all(callers)).concat();
    let wall = began.elapsed();
    latencies.sort_unstable();
    Burst { asked: latencies.len() as u64, wall, latencies }
}

/// The processor time that this process has used, user and system together.
pub(super) fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}
