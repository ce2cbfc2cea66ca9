//! Many clients at once, and how long each of their requests took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was sent.
    pub started: Instant,
    /// How long it took until it was answered or had failed.
    pub took: Duration,
    /// What was wrong with the answer.
    pub failure: Option<String>,
}

impl Sample {
    /// When it was over.
    #[must_use]
    pub fn ended(&self) -> Instant {
        self.started + self.took
    }
}

/// Clients that ask, pause and ask again until told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Sample>>>,
}

impl Load {
    /// Starts `clients` threads. `client(i)` makes what thread `i` does over and over, with `pause` in between; it answers `Err` with what is
    /// wrong. The pause keeps a machine with few cores from being the thing measured.
    pub fn start<C, F>(clients: usize, pause: Duration, client: F) -> Self
    where
        F: Fn(usize) -> C,
        C: FnMut() -> Result<(), String> + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|index| run(client(index), pause, Arc::clone(&stop))).collect();
        Self { stop, clients }
    }

    /// Stops the clients and hands back what they saw, in the order of the requests' starts.
    ///
    /// # Panics
    /// When a client has.
    #[must_use]
    pub fn finish(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::SeqCst);
        let joined = self.clients.drain(..).map(|client| client.join().expect("a client does not panic"));
        let mut samples: Vec<Sample> = joined.flatten().collect();
        samples.sort_by_key(|sample| sample.started);
        samples
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn run<C>(mut client: C, pause: Duration, stop: Arc<AtomicBool>) -> JoinHandle<Vec<Sample>>
where
    C: FnMut() -> Result<(), String> + Send + 'static,
{
    thread::spawn(move || {
        let mut samples = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            let started = Instant::now();
            let failure = client().err();
            samples.push(Sample { started, took: started.elapsed(), failure });
            thread::sleep(pause);
        }
        samples
    })
}

/// The smallest duration that at least `percent` of `durations` do not exceed (nearest rank); zero of none.
#[must_use]
pub fn percentile(durations: impl IntoIterator<Item = Duration>, percent: f64) -> Duration {
    let mut sorted: Vec<Duration> = durations.into_iter().collect();
    sorted.sort_unstable();
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let durations = || (1..=100).rev().map(Duration::from_millis);
        assert_eq!(percentile(durations(), 50.0), Duration::from_millis(50));
        assert_eq!(percentile(durations(), 99.0), Duration::from_millis(99));
        assert_eq!(percentile(durations(), 100.0), Duration::from_millis(100));
        assert_eq!(percentile([], 99.0), Duration::ZERO);
    }

    #[test]
    fn a_load_keeps_every_sample_and_every_failure() {
        let load = Load::start(4, Duration::from_millis(1), |index| {
            move || if index == 3 { Err("as told".to_owned()) } else { Ok(()) }
        });
        thread::sleep(Duration::from_millis(50));
        let samples = load.finish();
        assert!(samples.iter().any(|sample| sample.failure.is_none()));
        assert!(samples.iter().any(|sample| sample.failure.as_deref() == Some("as told")));
        assert!(samples.is_sorted_by_key(|sample| sample.started));
    }
}
