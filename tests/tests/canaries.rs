//! Whether the harness would notice: each of the core's deliberate bugs is turned on, and a fuzz body must panic.
//!
//!     cargo test --release -p groupcache-tests --features canary --test canaries -- --nocapture
//!
//! prints which body finds each, at which seed, and how fast. A canary that nobody finds is an oracle that is missing, or blind. Which canary is on is
//! the whole process' business: that is why there is one test, and why it is a program of its own.

use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use groupcache_core::__canary::{Canary, set};
use groupcache_tests::fuzz::{BODIES, Body, seeded};

/// Seeds that a canary has to be found within.
const SEEDS: u64 = 200;

/// The body whose oracle each bug is for. It is asked first; another one will do.
fn meant_for(canary: Canary) -> &'static str {
    match canary {
        Canary::UnfencedRemoval
        | Canary::JoinedBehindRemoval
        | Canary::JoinedBehindFlush
        | Canary::FlightGenerationIgnored
        | Canary::EarlierAttemptFails
        | Canary::ForwardedTwice
        | Canary::StaleForwarded
        | Canary::StaleRing
        | Canary::DeadlineOfFirstWaiter
        | Canary::WaitersLostOnCancel
        | Canary::TicketGenerationIgnored
        | Canary::LoadCountDrifts
        | Canary::LostWakeup
        | Canary::RegressionBelieved
        | Canary::ExpiryIgnored
        | Canary::TtlIgnored
        | Canary::HotCopyOutlivesOwner
        | Canary::SuccessorsWordKept
        | Canary::NegativeTtlIgnored
        | Canary::NegativeInMainShare
        | Canary::StaleWithoutCeiling
        | Canary::FreshOnlyIgnored => "shard",
        Canary::BudgetOffByOne
        | Canary::OverheadForgotten
        | Canary::EvictionLosesEntry
        | Canary::EvictedValueLost
        | Canary::HitsForgotten
        | Canary::CollisionIgnored => "policy",
        Canary::SettledTwice
        | Canary::StaleBatchAccepted
        | Canary::WindowNeverRefills
        | Canary::QueuedDeadlineIgnored
        | Canary::BusyWake
        | Canary::BreakerNeverHalfOpens
        | Canary::FailureThresholdIgnored => "link",
        Canary::LeaseNotRegranted
        | Canary::LeaseCountedFromAnswer
        | Canary::RecordNotPutAgain
        | Canary::LateRegistrationKept
        | Canary::WatchOneLate
        | Canary::OlderChangeTaken
        | Canary::EmptyViewBelieved => "membership",
        Canary::RefusalTakenForConsent | Canary::SilenceTakenForConsent | Canary::OwnerNotFirst => "removal",
        Canary::RingByListOrder | Canary::PointTieTurned | Canary::JoinForgotten => "ring",
    }
}

/// A bug that was found.
struct Found {
    body: &'static str,
    seed: u64,
    after: Duration,
    says: String,
}

#[test]
fn every_canary_is_found_and_without_one_nothing_is() {
    panic::set_hook(Box::new(|_| {})); // Each canary panics, as it should.
    set(None);
    let false_alarm = BODIES.iter().find_map(|body| search(body, body.seeds));
    let mut missed = Vec::new();
    println!("{:<26} {:<11} {:>5} {:>9}  what the body says", "canary", "found by", "seed", "after");
    for &canary in Canary::ALL {
        set(Some(canary));
        let body = |name| BODIES.iter().filter(move |body| (body.name == meant_for(canary)) == name);
        match body(true).chain(body(false)).find_map(|body| search(body, SEEDS)) {
            Some(Found { body, seed, after, says }) => {
                println!("{:<26} {body:<11} {seed:>5} {after:>9.0?}  {says}", format!("{canary:?}"));
            }
            None => {
                println!("{:<26} nobody", format!("{canary:?}"));
                missed.push(canary);
            }
        }
    }
    set(None);
    drop(panic::take_hook());
    if let Some(Found { body, seed, says, .. }) = false_alarm {
        panic!("without a canary {body} finds at seed {seed}: {says}");
    }
    assert!(missed.is_empty(), "nobody finds {missed:?}");
}

/// Runs a body until it panics.
fn search(body: &Body, seeds: u64) -> Option<Found> {
    let start = Instant::now();
    (0..seeds).find_map(|seed| {
        let input = seeded(seed);
        let panic = panic::catch_unwind(AssertUnwindSafe(|| (body.run)(&input))).err()?;
        let says = panic.downcast_ref::<String>().cloned();
        let says = says.or_else(|| panic.downcast_ref::<&str>().map(|says| (*says).to_owned()));
        let says: String = says.unwrap_or_default().replace('\n', " ").chars().take(90).collect();
        Some(Found { body: body.name, seed, after: start.elapsed(), says })
    })
}
