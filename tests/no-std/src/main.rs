//! The core on bare metal, as far as this can be shown without another target.
//!
//! This program has no std, no C library, a panic handler and an allocator of its own. When anything below `groupcache-core` pulls std in, the build ends
//! with E0152, "duplicate lang item `panic_impl`". It is run, too: it exits with 0 when the core works. x86_64 Linux only, for its entry and
//! its exit; the core itself knows of neither.

#![no_std]
#![no_main]

extern crate alloc;

mod platform;

use alloc::sync::Arc;
use core::time::Duration;

use groupcache_core::{Effects, FailureKind, HashedKey, Instant, Value, Wake};

/// What the core is asked to do here; the answer is the exit code, and says which step went wrong.
fn run() -> u8 {
    let start = Instant::from_nanos(u64::MAX - 5);
    if start.saturating_add(Duration::from_secs(1)) != Instant::MAX {
        return 1;
    }
    if Wake::At(start).earlier(Wake::Now) != Wake::Now {
        return 2;
    }
    let value = Value::from(alloc::vec![7_u8; 1000]);
    let copy = value.clone();
    drop(value);
    if copy.as_bytes() != [7; 1000] {
        return 3;
    }
    let shared: Arc<[u8]> = Arc::from(&b"key"[..]);
    if HashedKey::new(groupcache_core::GroupId::new(1), &shared, 9).as_bytes() != b"key" {
        return 4;
    }
    let effects: Effects<u32> = Effects::new();
    if !effects.is_empty() {
        return 5;
    }
    if FailureKind::NotFound.name() != "not_found" {
        return 6;
    }
    0
}
