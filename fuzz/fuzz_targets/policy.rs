//! A cache, against a naive model, and its policies against an exact LRU.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| groupcache_tests::fuzz::policy(data));
