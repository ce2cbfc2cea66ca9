//! One cluster, against a model of what it was given and has sent.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| groupcache_tests::fuzz::cluster(data));
