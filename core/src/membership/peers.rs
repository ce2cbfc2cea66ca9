//! Numbers for addresses, given once and never to another.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::record::MemberRecord;
use crate::id::PeerId;

/// Every address that was ever in a view, with its id. Grows by some 50 bytes and the address for each.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_addr: BTreeMap<Arc<str>, PeerId>,
    addrs: Vec<Arc<str>>,
    /// The view that was learned last.
    epoch: u64,
}

impl Peers {
    /// Numbers this node's own address first: its id is 0.
    pub(super) fn starting_with(me: &Arc<str>) -> Self {
        let mut peers = Self::default();
        peers.number(me);
        peers
    }

    pub(super) fn id(&self, addr: &str) -> Option<PeerId> {
        self.by_addr.get(addr).copied()
    }

    pub(super) fn addr(&self, peer: PeerId) -> Option<&Arc<str>> {
        self.addrs.get(usize::try_from(peer.index()).ok()?)
    }

    /// Numbers the addresses that are new. O(n log n), once a view.
    pub(super) fn learn(&mut self, epoch: u64, members: &[MemberRecord]) {
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        for member in members {
            self.number(&member.addr);
        }
    }

    fn number(&mut self, addr: &Arc<str>) {
        // 2^32 addresses do not fit into memory: the conversion does not fail.
        if let (false, Ok(index)) = (self.by_addr.contains_key(addr), u32::try_from(self.addrs.len())) {
            self.by_addr.insert(Arc::clone(addr), PeerId::new(index));
            self.addrs.push(Arc::clone(addr));
        }
    }
}
