//! Waiting for something to become true, with a deadline and with the reason why it did not.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at: often enough for "at once", rarely enough to leave the processor to what is waited for.
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks `probe` until it answers `Ok`, for at most `within`.
///
/// # Panics
/// When time is up, with `what` was waited for and the last answer.
#[track_caller]
pub fn poll_until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(why) if Instant::now() >= deadline => panic!("waited {within:?} in vain until {what}: {why}"),
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}

/// `Ok` when `holds`, else what `why` says: the shape that [`poll_until`] wants.
///
/// # Errors
/// When it does not hold.
pub fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_returns_the_first_success() {
        let mut turns = 0;
        poll_until("three turns passed", Duration::from_secs(5), || {
            turns += 1;
            ensure(turns == 3, || format!("{turns} turns"))
        });
        assert_eq!(turns, 3);
    }

    #[test]
    #[should_panic(expected = "until pigs fly: they walk")]
    fn polling_says_what_it_waited_for_and_why_in_vain() {
        poll_until("pigs fly", Duration::from_millis(30), || ensure(false, || "they walk".to_owned()));
    }
}
