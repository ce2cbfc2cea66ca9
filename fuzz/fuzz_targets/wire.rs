//! What peers and members write.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| groupcache_tests::fuzz::wire(data));
