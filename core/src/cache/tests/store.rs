//! Finding, replacing, removing, and the budget.

use super::*;

/// The charge of the entries that `entry_of` makes.
fn charge_of(len: usize) -> u64 {
    4 + len as u64 + ENTRY_OVERHEAD
}

fn key_of(name: &[u8; 4]) -> HashedKey<'_> {
    HashedKey::new(GroupId::new(0), name, hash_of(u32::from_be_bytes(*name)))
}

#[test]
fn an_entry_is_charged_key_value_and_overhead() {
    let mut cache = cache_of(10_000);
    let empty = cache.usage(Share::Main).bytes;
    assert_eq!(cache.put(entry_of(1, 100)), Inserted::Stored);
    let usage = cache.usage(Share::Main);
    assert_eq!((usage.bytes - empty, usage.entries, usage.budget), (charge_of(100), 1, 10_000));
    assert_eq!(
        cache.put(NewEntry { stored: Stored::NotFound, share: Share::Negative, ..entry_of(2, 0) }),
        Inserted::Stored
    );
    assert_eq!(cache.usage(Share::Negative).bytes - empty, charge_of(0));
}

#[test]
fn equal_hashes_of_different_keys_are_told_apart() {
    let mut cache = cache_of(1 << 20);
    for name in 0..200_u32 {
        for group in 0..2 {
            let key = Key::from(&HashedKey::new(GroupId::new(group), &name.to_be_bytes(), 7));
            let stored = Stored::Value(Value::from(alloc::vec![group as u8; name as usize]));
            assert_eq!(cache.put(NewEntry { key, stored, ..entry_of(name, 0) }), Inserted::Stored);
        }
    }
    for name in 0..200_u32 {
        let bytes = name.to_be_bytes();
        let key = HashedKey::new(GroupId::new(1), &bytes, 7);
        let stored = Stored::Value(Value::from(alloc::vec![1; name as usize]));
        assert_eq!(cache.get(&key, || NOW, 0).map(|entry| entry.stored), Some(&stored));
        assert!(cache.remove(&key, &mut Vec::new()));
        assert!(!cache.remove(&key, &mut Vec::new()));
        assert!(cache.peek(&HashedKey::new(GroupId::new(0), &bytes, 7)).is_some());
    }
    cache.check_invariants().unwrap();
}

#[test]
fn a_dead_entry_is_not_found_and_not_counted_as_hit_but_can_be_peeked_at() {
    let mut cache = cache_of(10_000);
    let _ = cache.put(NewEntry { expires: NOW, epoch: 3, ..entry_of(1, 10) });
    let name = 1_u32.to_be_bytes();
    let key = key_of(&name);
    assert!(cache.get(&key, || NOW, 3).is_none(), "expires at now: gone");
    assert!(cache.get(&key, || Instant::ZERO, 2).is_none(), "another epoch");
    let entry = cache.peek(&key).unwrap();
    assert_eq!((entry.slot.hits(), entry.expires, entry.epoch), (0, NOW, 3));
    assert!(cache.get(&key, || Instant::ZERO, 3).is_some());
    assert_eq!(cache.peek(&key).unwrap().slot.hits(), 1);
}

#[test]
fn hits_write_three_times_and_never_again() {
    let mut cache = cache_of(10_000);
    let _ = cache.put(entry_of(1, 10));
    let name = 1_u32.to_be_bytes();
    let writes = (0..100).filter(|_| cache.peek(&key_of(&name)).unwrap().touch()).count();
    assert_eq!(writes, 3);
}

#[test]
fn a_value_that_fits_exactly_is_stored_and_one_byte_more_is_too_large() {
    let mut cache = cache_of(20_000);
    let _ = cache.put(entry_of(1, 50));
    let most = (20_000 - (cache.usage(Share::Main).bytes - charge_of(50)) - charge_of(0)) as usize;
    let mut evicted = Vec::new();
    assert_eq!(cache.insert(entry_of(2, most + 1), |_, _, _| false, &mut evicted), Inserted::TooLarge);
    assert_eq!(
        (evicted.len(), evicted[0].len(), cache.len_of(1)),
        (1, most + 1, Some(50)),
        "nothing else went"
    );
    assert_eq!(cache.put(entry_of(2, most)), Inserted::Stored);
    assert_eq!((cache.len_of(1), cache.len_of(2)), (None, Some(most)));
    assert_eq!(cache.usage(Share::Main).bytes, 20_000);
    assert_eq!(cache.put(entry_of(2, most + 1)), Inserted::TooLarge);
    assert_eq!(cache.len_of(2), None, "what the key had before is outdated, so it goes");
    assert_eq!(cache.counters(), CacheCounters { evictions: 1, too_large: 2, ..CacheCounters::default() });
}

#[test]
fn budgets_in_which_nothing_fits_refuse_everything() {
    for budget in [0, 1, 63, 64, ENTRY_OVERHEAD, charge_of(0) - 1] {
        let mut cache = cache_of(budget);
        for share in Share::ALL {
            assert_eq!(cache.put(NewEntry { share, ..entry_of(1, 0) }), Inserted::TooLarge);
            assert_eq!(cache.usage(share).entries, 0);
        }
    }
    let mut cache = cache_of(charge_of(0));
    assert_eq!((cache.put(entry_of(1, 0)), cache.put(entry_of(2, 0))), (Inserted::Stored, Inserted::Stored));
    assert_eq!((cache.len_of(1), cache.len_of(2)), (None, Some(0)));
}

#[test]
fn replacing_recharges_keeps_the_hits_and_hands_the_old_value_out() {
    let mut cache = cache_of(2_000);
    for name in 0..5 {
        let _ = cache.put(entry_of(name, 100));
    }
    assert_eq!(cache.len_of(3), Some(100));
    for (len, entries) in [(10, 5), (100, 5), (700, 5), (0, 5), (1_000, 3), (1_600, 1)] {
        let mut evicted = Vec::new();
        assert_eq!(cache.insert(entry_of(3, len), |_, _, _| false, &mut evicted), Inserted::Stored);
        cache.check_invariants().unwrap();
        let name = 3_u32.to_be_bytes();
        let entry = cache.peek(&key_of(&name)).unwrap();
        assert_eq!(entry.stored, &Stored::Value(Value::from(alloc::vec![3; len])));
        assert!(
            !evicted.is_empty() && cache.usage(Share::Main).entries <= entries,
            "{len}: {:?}",
            cache.usage(Share::Main)
        );
    }
}

#[test]
fn a_key_is_in_one_share_at_a_time() {
    let mut cache = cache_of(10_000);
    for share in [Share::Hot, Share::Main, Share::Negative, Share::Hot] {
        assert_eq!(cache.put(NewEntry { share, ..entry_of(1, 100) }), Inserted::Stored);
        let name = 1_u32.to_be_bytes();
        assert_eq!(cache.peek(&key_of(&name)).unwrap().share, share);
        let entries = Share::ALL.map(|share| cache.usage(share).entries);
        assert_eq!((entries.iter().sum::<u32>(), entries[share as usize]), (1, 1));
    }
}

#[test]
fn one_share_never_evicts_from_another() {
    let mut cache = cache_of(5_000);
    for name in 0..1_000 {
        let _ = cache.insert(
            NewEntry { share: Share::Hot, ..entry_of(name, 100) },
            |_, _, _| false,
            &mut Vec::new(),
        );
    }
    let hot = cache.usage(Share::Hot);
    for name in 2_000..3_000 {
        let _ = cache.put(entry_of(name, 50));
    }
    assert_eq!(cache.usage(Share::Hot), hot);
}

#[test]
fn a_dead_entry_is_the_victim_even_when_it_was_hit() {
    let mut cache = cache_of(18_000);
    for name in 0..60 {
        let _ = cache.put(NewEntry { epoch: name % 2, ..entry_of(name, 100) });
    }
    let names: Vec<[u8; 4]> = (0..60_u32).map(u32::to_be_bytes).collect();
    for name in &names {
        cache.peek(&key_of(name)).unwrap().touch();
    }
    for name in 100..140 {
        let _ = cache.insert(
            NewEntry { epoch: 1, ..entry_of(name, 100) },
            |_, _, epoch| epoch == 0,
            &mut Vec::new(),
        );
    }
    cache.check_invariants().unwrap();
    let counters = cache.counters();
    assert!(counters.reclaimed >= 20 && counters.evictions <= 15, "{counters:?}");
}

#[test]
fn clearing_hands_out_every_value_and_the_cache_goes_on() {
    let mut cache = cache_of(10_000);
    for (name, share) in (0..30).zip(Share::ALL.into_iter().cycle()) {
        let _ = cache.put(NewEntry { share, ..entry_of(name, 10) });
    }
    let mut evicted = Vec::new();
    cache.clear(&mut evicted);
    cache.check_invariants().unwrap();
    assert_eq!((evicted.len(), cache.len_of(3)), (30, None));
    assert_eq!((cache.put(entry_of(3, 5)), cache.len_of(3)), (Inserted::Stored, Some(5)));
}

#[test]
fn the_tables_do_not_grow_once_the_cache_is_full() {
    let mut cache = cache_of(100_000);
    let mut evicted = Vec::new();
    let tables = |cache: &Cache| (cache.arena.allocated(), cache.index.bytes(), cache.main.table_bytes());
    let mut sizes = SplitMix64::new(3);
    let mut turn = |cache: &mut Cache, name| {
        evicted.clear();
        let _ = cache.insert(entry_of(name, sizes.below(60) as usize), |_, _, _| false, &mut evicted);
        evicted.capacity()
    };
    for name in 0..20_000 {
        turn(&mut cache, name);
    }
    let (before, room) = (tables(&cache), turn(&mut cache, 20_000));
    for name in 20_001..60_000 {
        assert_eq!(turn(&mut cache, name), room);
    }
    assert_eq!(tables(&cache), before);
}

#[test]
fn a_share_that_holds_more_entries_than_expected_pays_for_a_larger_sketch() {
    let config =
        CacheConfig { main: 1 << 20, hot: 0, negative: 0, expected_entry: 10_000, seed: 1, adaptive: false };
    let mut cache = Cache::new(&config).unwrap();
    let before = cache.main.table_bytes();
    for name in 0..8_000 {
        assert_ne!(cache.insert(entry_of(name, 0), |_, _, _| false, &mut Vec::new()), Inserted::TooLarge);
        assert!(cache.usage(Share::Main).bytes <= 1 << 20);
    }
    cache.check_invariants().unwrap();
    let usage = cache.usage(Share::Main);
    let per_entry = cache.main.table_bytes() / u64::from(usage.entries);
    assert!(
        usage.entries > 6_000 && (8..=32).contains(&per_entry),
        "{usage:?}: {before} to {per_entry} each"
    );
}

#[test]
fn tables_that_memory_cannot_hold_are_a_typed_error() {
    let config = CacheConfig {
        main: u64::MAX,
        hot: u64::MAX,
        negative: 0,
        expected_entry: 1,
        seed: 1,
        adaptive: false,
    };
    assert_eq!(Cache::new(&config).map(|_| ()), Err(ConfigError::OutOfMemory));
}
