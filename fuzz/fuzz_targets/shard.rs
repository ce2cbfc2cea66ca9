//! One shard, against a model of its loads and waiters.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| groupcache_tests::fuzz::shard(data));
