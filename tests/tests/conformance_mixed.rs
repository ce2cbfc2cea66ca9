//! The conformance suite on rings that nodes on tokio and nodes on async-std share.

#![cfg(feature = "conformance")]

groupcache_tests::conformance!(AsyncStd, Tokio);
