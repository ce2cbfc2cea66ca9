//! The conformance suite on nodes on tokio.

#![cfg(feature = "conformance")]

groupcache_tests::conformance!(Tokio);
