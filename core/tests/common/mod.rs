//! What the tests of a shard have in common.

use std::sync::Arc;

use groupcache_core::{
    GroupConfig, GroupId, HashedKey, Instant, Member, PeerId, Placement, Ring, RingEpoch, Shard, ShardConfig,
};

pub(crate) const GROUP: GroupId = GroupId::new(0);
pub(crate) const ME: PeerId = PeerId::new(0);

/// A shard with one group and, unless `change` says otherwise, a budget of 1 MiB; one of `members` on its ring.
pub(crate) fn shard<W>(members: u32, now: Instant, change: impl FnOnce(&mut ShardConfig)) -> Shard<W> {
    let mut config = ShardConfig::default();
    config.budget = 1 << 20;
    change(&mut config);
    let mut shard = Shard::new(0, config, ME, ring(members), 1, now).expect("a shard");
    shard.add_group(GROUP, GroupConfig::default()).expect("a group");
    shard
}

/// A ring of this node and others.
pub(crate) fn ring(members: u32) -> Arc<Ring> {
    let members = (0..members).map(|id| Member::new(PeerId::new(id), format!("node-{id}:1"))).collect();
    Arc::new(Ring::new(Placement::Slots, RingEpoch::new(1), members).expect("a ring"))
}

pub(crate) fn hashed(bytes: &[u8]) -> HashedKey<'_> {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    HashedKey::new(GROUP, bytes, hash ^ hash.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
