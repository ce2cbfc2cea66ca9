//! What an HTTP/2 client may send as its authority.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| groupcache_tests::fuzz::authority(data));
