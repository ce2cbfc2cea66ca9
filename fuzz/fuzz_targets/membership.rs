//! A membership, against a small etcd and what was told of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| groupcache_tests::fuzz::membership(data));
