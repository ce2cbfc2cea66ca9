//! groupcache on async-std.
