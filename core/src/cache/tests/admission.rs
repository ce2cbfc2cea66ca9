//! Who is kept: what the policy must do for known shapes of traffic.

use super::*;

/// A budget for about `entries` entries of 60 bytes, each charged 200.
fn cache_for(entries: u64) -> Cache {
    cache_of(entries * (200 + 20))
}

#[test]
fn a_scan_does_not_wash_out_the_working_set() {
    let mut cache = cache_for(1_000);
    for _ in 0..5 {
        for name in 0..600 {
            cache.read(name, 60);
        }
    }
    for name in 10_000..40_000 {
        cache.read(name, 60);
    }
    let kept = (0..600).filter(|&name| cache.len_of(name).is_some()).count();
    cache.check_invariants().unwrap();
    assert!(kept > 540, "{kept} of 600 survived a scan of 30 times the cache");
}

#[test]
fn an_entry_that_was_hit_in_the_window_is_admitted_without_a_contest() {
    let mut cache = cache_for(1_000);
    for _ in 0..8 {
        for name in 0..1_000 {
            cache.read(name, 60);
        }
    }
    // Both are new; the sketch knows the working set better than either.
    for name in [5_000, 6_000, 6_000] {
        cache.read(name, 60);
    }
    for name in 10_000..10_200 {
        cache.read(name, 60);
    }
    assert_eq!((cache.len_of(5_000), cache.len_of(6_000)), (None, Some(60)));
}

#[test]
fn a_loop_larger_than_the_cache_still_hits() {
    let mut cache = cache_for(500);
    let hits = (0..40_000).filter(|turn| cache.read(turn % 1_000, 60)).count();
    // LRU would have none at all; half of the loop fits.
    assert!(hits > 12_000, "{hits} hits of 40000");
}

#[test]
fn the_working_set_can_change() {
    let mut cache = cache_for(500);
    for turn in 0..20_000 {
        cache.read(turn % 400, 60);
    }
    for turn in 0..20_000 {
        cache.read(10_000 + turn % 400, 60);
    }
    let kept = (10_000..10_400).filter(|&name| cache.len_of(name).is_some()).count();
    assert!(kept > 380, "{kept} of 400 of the new working set are in");
}

#[test]
fn a_wider_window_serves_traffic_that_is_recent_and_never_frequent() {
    // Every key is asked for twice, 300 other requests apart, and never again.
    let hits = |permille| {
        let mut cache = cache_for(500);
        cache.tune(Share::Main, Tuning { window_permille: permille, lenient: false });
        let mut again = |turn: u32| {
            cache.read(turn, 60);
            turn >= 300 && cache.read(turn - 300, 60)
        };
        (0..20_000).filter(|&turn| again(turn)).count()
    };
    let (narrow, wide) = (hits(10), hits(900));
    assert!(wide > 18_000 && narrow < wide / 2, "{narrow} and {wide} of 19700");
}

#[test]
fn a_lenient_policy_follows_a_working_set_that_drifts() {
    let hits = |lenient| {
        let mut cache = cache_for(300);
        cache.tune(Share::Main, Tuning { lenient, ..Tuning::default() });
        let mut rng = SplitMix64::new(4);
        // A band of 600 names that moves by one every 8 requests.
        (0..60_000_u32).filter(|turn| cache.read(turn / 8 + rng.below(600) as u32, 60)).count()
    };
    let (strict, lenient) = (hits(false), hits(true));
    assert!(lenient > strict + strict / 20, "{strict} strict, {lenient} lenient");
}

#[test]
fn narrowing_the_window_keeps_the_budget_and_the_lists_right() {
    let mut cache = cache_for(300);
    for (turn, permille) in [900, 0, 1000, 70, 5000, 10].into_iter().cycle().take(600).enumerate() {
        cache.tune(Share::Main, Tuning { window_permille: permille, lenient: false });
        let _ = cache.put(entry_of(turn as u32, turn % 100));
        cache.len_of((turn / 2) as u32);
    }
}

#[test]
fn the_same_calls_lead_to_the_same_cache() {
    let run = || {
        let mut cache = cache_for(100);
        let mut rng = SplitMix64::new(9);
        let hits =
            (0..20_000).filter(|_| cache.read((rng.below(300) * rng.below(300) / 300) as u32, 60)).count();
        (hits, cache.counters(), cache.usage(Share::Main))
    };
    assert_eq!(run(), run());
}

/// Hits among the second of two requests for every name, which come 1,400 turns apart.
fn second_hits(adaptive: bool) -> u32 {
    let budget = 4 << 20;
    let config = CacheConfig { main: budget, hot: 0, negative: 0, expected_entry: 1_000, seed: 1, adaptive };
    let mut cache = Cache::new(&config).unwrap();
    let mut hits = 0;
    for turn in 0..60_000_u32 {
        for name in [Some(turn), turn.checked_sub(1_400)].into_iter().flatten() {
            let bytes = name.to_be_bytes();
            let key = HashedKey::new(GroupId::new(0), &bytes, hash_of(name));
            if cache.get(&key, || NOW, 0).is_some() {
                hits += 1;
            } else {
                let _ = cache.insert(entry_of(name, 800), |_, _, _| false, &mut Vec::new());
                assert!(cache.usage(Share::Main).bytes <= budget);
            }
        }
    }
    cache.check_invariants().unwrap();
    hits
}

#[test]
fn an_adaptive_window_finds_what_is_recent_and_never_frequent() {
    let (fixed, adaptive) = (second_hits(false), second_hits(true));
    assert!(
        adaptive > 30_000 && adaptive > 4 * fixed,
        "{adaptive} with an adaptive window, {fixed} with a fixed one"
    );
}
