//! What a node is made from, and what a peer's request is made of.

use alloc::sync::Arc;
use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;

use crate::config::{LinkConfig, ShardConfig};
use crate::membership::MembershipConfig;
use crate::ring::Placement;
use crate::time::Instant;
use crate::value::HashedKey;

/// The configuration of a [`Node`](crate::Node).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeConfig {
    /// How keys are placed. The same on every member.
    pub placement: Placement,
    /// Shards. One suits a single thread; the shard configuration's budget and limits are divided among them. Default 1.
    pub shards: NonZeroU16,
    /// The cache and its loads. The budget is the node's.
    pub shard: ShardConfig,
    /// The links to peers.
    pub link: LinkConfig,
    /// Registration and discovery, with this node's address.
    pub membership: MembershipConfig,
    /// Requests of peers in progress, at most. Default 4,096.
    pub max_requests: NonZeroU32,
    /// Removals under way, at most. Default 1,024.
    pub max_removals: NonZeroU32,
    /// How long a removal waits for members to acknowledge. Default 2 s.
    pub removal_timeout: Duration,
}

impl NodeConfig {
    /// The defaults, for a node that peers know as `me` (`host:port`).
    #[must_use]
    pub fn new(me: impl Into<Arc<str>>) -> Self {
        Self {
            placement: Placement::default(),
            shards: NonZeroU16::MIN,
            shard: ShardConfig::default(),
            link: LinkConfig::default(),
            membership: MembershipConfig::new(me),
            max_requests: NonZeroU32::MIN.saturating_add(4095),
            max_removals: NonZeroU32::MIN.saturating_add(1023),
            removal_timeout: Duration::from_secs(2),
        }
    }
}

/// One key of a peer's request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestKey<'a> {
    /// The key; its group by this node's number, `None` where this node has no such group.
    pub key: Option<HashedKey<'a>>,
    /// When the peer stops waiting for it.
    pub deadline: Instant,
}

impl<'a> RequestKey<'a> {
    /// A key that is waited for until `deadline`.
    #[must_use]
    pub const fn new(key: Option<HashedKey<'a>>, deadline: Instant) -> Self {
        Self { key, deadline }
    }
}
