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
use alloc::vec;
use core::num::NonZeroU32;
use core::time::Duration;

use groupcache_core::{
    Effects, GroupConfig, GroupId, HashedKey, Instant, Intent, Level, Load, LoadRequest, Member, Node,
    NodeConfig, Outcome, PeerId, Placement, RegistryIntent, Ring, RingEpoch, Shard, ShardConfig, Value, Wake,
};

const GROUP: GroupId = GroupId::new(0);
const NOW: Instant = Instant::from_nanos(1);
const SOON: Instant = Instant::from_nanos(1_000_000_000);

/// What the core is asked to do here; the answer is the exit code, and says which step went wrong.
fn run() -> u8 {
    if Instant::MAX.saturating_add(Duration::from_secs(1)) != Instant::MAX {
        return 1;
    }
    let value = Value::from(vec![7_u8; 1000]);
    let Some(ring) = ring() else { return 2 };
    if ring.owner(b"user:42").map(Member::id) != Some(PeerId::new(1)) {
        return 3;
    }
    if shard(ring, &value).is_none() {
        return 4;
    }
    if node(&value).is_none() {
        return 5;
    }
    if value.as_bytes() != [7; 1000] {
        return 6;
    }
    0
}

/// The fleet of ARCHITECTURE.md's vectors.
fn ring() -> Option<Arc<Ring>> {
    let names = ["127.0.0.1:6324", "127.0.0.1:6325", "127.0.0.1:6326"];
    let members = (0..).zip(names).map(|(id, name)| Member::new(PeerId::new(id), name)).collect();
    Ring::new(Placement::default(), RingEpoch::new(1), members).ok().map(Arc::new)
}

/// A miss, its load, and a hit, on a shard that owns the key.
fn shard(ring: Arc<Ring>, value: &Value) -> Option<()> {
    let mut shard = Shard::new(0, small(ShardConfig::default()), PeerId::new(1), ring, 1, NOW).ok()?;
    shard.add_group(GROUP, GroupConfig::default()).ok()?;
    let (mut out, key) = (Effects::new(), HashedKey::new(GROUP, b"user:42", 42));
    let Ok(Load::Wait(_)) = shard.load(NOW, LoadRequest::new(key, "waiter", SOON), &mut out) else {
        return None;
    };
    let Some(Intent::Load { flight, attempt, .. }) = out.drain_intents().next() else { return None };
    let outcome = Outcome::Value { value: value.clone(), ttl: None };
    shard.handle_loaded(NOW, flight, attempt, outcome, &mut out);
    out.drain_completions().next().filter(|done| done.waiter == "waiter")?.result.ok()?;
    let found = shard.get(NOW, &key)?.ok()?;
    (found.value == *value && found.level == Level::Main && shard.next_wake() == Wake::Idle).then_some(())
}

/// The same on a node that is about to join a fleet.
fn node(value: &Value) -> Option<()> {
    let mut config = NodeConfig::new("127.0.0.1:6324");
    config.shard = small(config.shard);
    let mut node = Node::new(config, 1, NOW).ok()?;
    node.add_group(GROUP, &GroupConfig::default()).ok()?;
    let (mut out, key) = (Effects::new(), HashedKey::new(GROUP, b"user:42", 42));
    node.start(NOW, &mut out);
    let registers = |intent| matches!(intent, Intent::Registry(RegistryIntent::Register { .. }));
    out.drain_intents().any(registers).then_some(())?;
    let Ok(Load::Wait(_)) = node.load(NOW, LoadRequest::new(key, 7, SOON), &mut out) else { return None };
    let Some(Intent::Load { flight, attempt, .. }) = out.drain_intents().next() else { return None };
    let outcome = Outcome::Value { value: value.clone(), ttl: None };
    node.handle_loaded(NOW, flight, attempt, outcome, &mut out);
    out.drain_completions().next().filter(|done| done.waiter == 7)?.result.ok()?;
    (node.get(NOW, &key)?.ok()?.value == *value && node.next_wake() != Wake::Idle).then_some(())
}

/// Tables that fit the heap of this program.
fn small(mut config: ShardConfig) -> ShardConfig {
    config.budget = 64 << 10;
    (config.max_flights, config.max_waiters) = (NonZeroU32::MIN, NonZeroU32::MIN);
    config
}
