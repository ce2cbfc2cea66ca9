//! Threads that ask the origin. It is a database, say, whose client blocks.

use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use groupcache_core::{Attempt, Failure, FailureKind, FlightId, Instant, Key, Outcome, Value};

use super::{Clock, Core};

/// How many loads run at a time. More wait, until their deadlines.
const WORKERS: usize = 4;

/// Where values come from: `None` where there is no such key.
pub(crate) type Origin = Arc<dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, OriginError> + Send + Sync>;
pub(crate) type OriginError = Box<dyn Error + Send + Sync>;

/// A finished load, for `handle_loaded`.
pub(crate) struct Loaded {
    pub(crate) flight: FlightId,
    pub(crate) attempt: Attempt,
    pub(crate) outcome: Outcome,
}

/// A pool of threads. They end when it is dropped, each after the load that it is at: a load that blocks cannot be stopped, and nobody waits for it.
pub(crate) struct Workers {
    jobs: Sender<Job>,
    wanted: Arc<Mutex<HashSet<FlightId>>>,
}

struct Job {
    flight: FlightId,
    attempt: Attempt,
    key: Key,
    deadline: Instant,
}

impl Workers {
    /// Starts the threads. `hand_in` brings a finished load to the loop, and wakes it.
    pub(crate) fn start(
        core: &Core,
        origin: &Origin,
        hand_in: impl Fn(Loaded) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let (queue, wanted) = (Arc::new(Mutex::new(queue)), Arc::new(Mutex::new(HashSet::new())));
        let clock = core.clock;
        for number in 0..WORKERS {
            let (queue, wanted) = (Arc::clone(&queue), Arc::clone(&wanted));
            let (origin, hand_in) = (Arc::clone(origin), hand_in.clone());
            let worker = move || work(&queue, &wanted, clock, &origin, hand_in);
            thread::Builder::new().name(format!("origin-{number}")).spawn(worker)?;
        }
        Ok(Self { jobs, wanted })
    }

    /// [`Intent::Load`](groupcache_core::Intent::Load).
    pub(crate) fn load(&self, flight: FlightId, attempt: Attempt, key: Key, deadline: Instant) {
        lock(&self.wanted).insert(flight);
        // The threads live for as long as `jobs` does. Were they gone, the flight would run into its deadline.
        let _sent = self.jobs.send(Job { flight, attempt, key, deadline });
    }

    /// [`Intent::AbortLoad`](groupcache_core::Intent::AbortLoad): a load that waits its turn is not begun.
    pub(crate) fn abort(&self, flight: FlightId) {
        lock(&self.wanted).remove(&flight);
    }
}

fn work(
    queue: &Mutex<Receiver<Job>>,
    wanted: &Mutex<HashSet<FlightId>>,
    clock: Clock,
    origin: &Origin,
    hand_in: impl Fn(Loaded),
) {
    loop {
        // The guard is gone when the job is there: one thread waits for a job at a time, and none while it works.
        let job = lock(queue).recv();
        let Ok(Job { flight, attempt, key, deadline }) = job else { return };
        let is_wanted = lock(wanted).contains(&flight) && clock.now() < deadline;
        if is_wanted {
            let outcome = ask(origin, key.as_bytes());
            hand_in(Loaded { flight, attempt, outcome });
        }
        lock(wanted).remove(&flight);
    }
}

/// An origin that panics has failed. It does not take the thread with it.
fn ask(origin: &Origin, key: &[u8]) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| origin(key))) {
        Ok(Ok(Some(value))) => Outcome::Value { value: Value::from(value), ttl: None },
        Ok(Ok(None)) => Outcome::Failed(Failure::new(FailureKind::NotFound)),
        Ok(Err(error)) => Outcome::Failed(Failure::with_cause(FailureKind::OriginFailed, Arc::from(error))),
        Err(_) => {
            Outcome::Failed(Failure::with_message(FailureKind::OriginFailed, "the origin's client panicked"))
        }
    }
}

/// What these locks guard is whole at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
