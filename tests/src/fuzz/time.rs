//! Time without a clock, against a model that cannot overflow.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use groupcache_core::{Instant, Wake};

/// Instants saturate where the model leaves their range, and wakes are ordered: now, sooner, later, idle.
pub fn time(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    while !bytes.is_empty() {
        if step(&mut bytes).is_err() {
            return; // The bytes ended within a step.
        }
    }
}

fn step(bytes: &mut Unstructured<'_>) -> Result<()> {
    let (a, b): (u64, u64) = (bytes.arbitrary()?, bytes.arbitrary()?);
    let duration = Duration::new(bytes.arbitrary()?, bytes.int_in_range(0..=999_999_999)?);
    let (one, other) = (Instant::from_nanos(a), Instant::from_nanos(b));

    let sum = (u128::from(a) + duration.as_nanos()).min(u128::from(u64::MAX));
    assert_eq!(u128::from(one.saturating_add(duration).as_nanos()), sum);
    let difference = u128::from(a).saturating_sub(duration.as_nanos());
    assert_eq!(u128::from(one.saturating_sub(duration).as_nanos()), difference);
    assert_eq!(one.saturating_since(other), Duration::from_nanos(a.saturating_sub(b)));
    assert_eq!(other.saturating_add(one.saturating_since(other)), one.max(other));

    let wakes = [wake(bytes)?, wake(bytes)?, wake(bytes)?];
    let earliest = wakes[0].earlier(wakes[1]).earlier(wakes[2]);
    assert_eq!(earliest, wakes[0].earlier(wakes[1].earlier(wakes[2])), "in whatever order they are asked");
    assert_eq!(earliest, wakes[2].earlier(wakes[0]).earlier(wakes[1]));
    assert_eq!(earliest.is_due(one), wakes.iter().any(|wake| wake.is_due(one)), "one timer does for all");
    Ok(())
}

fn wake(bytes: &mut Unstructured<'_>) -> Result<Wake> {
    Ok(match bytes.int_in_range(0..=3)? {
        0 => Wake::Now,
        1 => Wake::Idle,
        _ => Wake::At(Instant::from_nanos(bytes.arbitrary()?)),
    })
}
