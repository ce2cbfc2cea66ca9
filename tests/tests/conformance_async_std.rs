//! The conformance suite on nodes on async-std, and no runtime of tokio entered.

#![cfg(feature = "conformance")]

groupcache_tests::conformance!(AsyncStd);
