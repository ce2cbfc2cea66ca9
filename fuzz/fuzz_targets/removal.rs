//! Removals, against a model of who was told and who has said what.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| groupcache_tests::fuzz::removal(data));
