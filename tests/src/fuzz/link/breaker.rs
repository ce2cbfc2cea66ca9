//! What a link's breaker may do, told by the link's own counters from one call to the next.

use groupcache_core::{Instant, Link, LinkConfig, LinkStats, Wake};

/// The link as it was after the call before.
#[derive(Debug)]
pub(super) struct Breaker {
    was_connected: bool,
    had_connection: bool,
    stats: LinkStats,
    /// Batches that had failed, and how often the breaker had opened, when it closed last.
    failed: u64,
    opened: u64,
    /// When the link wants a call, and how many such times have passed since it last took fetches, or dialled.
    wake: Wake,
    patience: u32,
    /// Whether batches were in flight: then it may be their deadline that the link wakes for.
    was_busy: bool,
}

impl Breaker {
    pub(super) fn new() -> Self {
        let stats = LinkStats::default();
        Self {
            was_connected: false,
            had_connection: false,
            stats,
            failed: 0,
            opened: 0,
            wake: Wake::Idle,
            patience: 0,
            was_busy: false,
        }
    }

    /// Failed batches open a breaker once there are enough of them, not before. An open one is tried again, by a probe or a dial: the first time that the
    /// link wakes, or the second, where the first ends a dial. Called after each call; `has_connection` tells whether it is a connection that the breaker
    /// opens behind: one that breaks, or takes no more calls, opens it as well. Nobody tries a peer that has `left` the ring.
    pub(super) fn watch(
        &mut self,
        link: &Link,
        config: &LinkConfig,
        now: Instant,
        (has_connection, left, busy): (bool, bool, bool),
    ) {
        let stats = link.stats();
        let opened = stats.opened > self.stats.opened && stats.failed_batches > self.stats.failed_batches;
        if opened && self.was_connected && has_connection {
            let failed = stats.failed_batches - self.failed;
            let threshold = config.failure_threshold.get();
            assert!(failed >= threshold.into(), "{failed} failed batches of {threshold} open the breaker");
        }
        // A peer that left the ring and is back before its connection ended is as trusted as it was.
        let closed = !self.had_connection || stats.opened > self.opened;
        if link.is_connected() && !self.was_connected && closed {
            (self.failed, self.opened) = (stats.failed_batches, stats.opened);
        }
        self.had_connection = has_connection;
        self.patience += u32::from(self.wake.is_due(now) && !self.was_busy);
        self.was_busy = busy;
        if left || link.is_up() || link.next_wake() == Wake::Idle || stats.dials > self.stats.dials {
            self.patience = 0;
        }
        assert!(self.patience < 2, "a breaker stays open");
        (self.was_connected, self.stats, self.wake) = (link.is_connected(), stats, link.next_wake());
    }
}
