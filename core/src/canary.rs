//! Deliberate bugs, to see whether the harness finds them: the private feature `__canary`.
//!
//! A canary is one wrong condition in one place, marked there by [`is`]. Without the feature `is` is the constant `false`, and the condition is
//! compiled away. With it one canary at a time can be set, for the whole process. `tests/tests/canaries.rs` sets each in turn, and demands that a
//! fuzz body panics. Who adds an oracle adds the bug that it is for.

#![cfg_attr(not(feature = "__canary"), allow(unreachable_pub))]

#[cfg(feature = "__canary")]
use core::sync::atomic::{AtomicU8, Ordering};

/// Declares the canaries, and the list of them all.
macro_rules! canaries {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The deliberate bugs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(clippy::exhaustive_enums)] // Each names the body that finds it: a new one without must not compile.
        #[repr(u8)]
        pub enum Canary {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Canary {
            /// Each of them.
            #[cfg(feature = "__canary")]
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

canaries! {
    // Shards: loads and who waits for them.
    /// A load that began before a removal puts its value into the cache.
    UnfencedRemoval,
    /// A load that began before a removal is joined behind it.
    JoinedBehindRemoval,
    /// A load that began before a flush is joined behind it.
    JoinedBehindFlush,
    /// The answer to a load that is over counts for the one that has its slot now.
    FlightGenerationIgnored,
    /// The failure of an earlier attempt ends a load whose next attempt is under way.
    EarlierAttemptFails,
    /// A request that came from a peer is forwarded to the owner.
    ForwardedTwice,
    /// A peer's request for an expired value has it fetched from the owner.
    StaleForwarded,
    /// Owners are taken from the first ring for ever.
    StaleRing,
    /// A flight's deadline is its first waiter's, however patient those are who join.
    DeadlineOfFirstWaiter,
    /// A waiter that leaves takes the load along, though others wait for it.
    WaitersLostOnCancel,
    /// A used ticket takes back whoever has its slot now.
    TicketGenerationIgnored,
    /// A load that is over counts as one in progress for its group's limit.
    LoadCountDrifts,
    /// A shard wants no call though a flight's deadline is near.
    LostWakeup,
    /// Time that goes backwards is believed.
    RegressionBelieved,

    // Shards: what is kept, where, and for how long.
    /// A value that has expired is found.
    ExpiryIgnored,
    /// Neither the loader's TTL nor the group's counts.
    TtlIgnored,
    /// A hot copy lives for the hot TTL, whatever the owner has left.
    HotCopyOutlivesOwner,
    /// What a successor gave out is kept.
    SuccessorsWordKept,
    /// A "not found" is kept for ever.
    NegativeTtlIgnored,
    /// A "not found" takes the place of values.
    NegativeInMainShare,
    /// An expired value is given out however old it is.
    StaleWithoutCeiling,
    /// An expired value is given out though it is one that must be fresh.
    FreshOnlyIgnored,

    // The cache.
    /// A share takes one byte more than its budget.
    BudgetOffByOne,
    /// An entry is charged its key and value only.
    OverheadForgotten,
    /// An evicted entry leaves its list, and stays in index and slab.
    EvictionLosesEntry,
    /// A value that goes is not handed out.
    EvictedValueLost,
    /// An entry that was hit is evicted like any other.
    HitsForgotten,
    /// A key is found by its table hash alone.
    CollisionIgnored,

    // Links.
    /// An answered fetch is settled twice.
    SettledTwice,
    /// Late answers to a batch that is over count for another one.
    StaleBatchAccepted,
    /// The first reply does not make room in the window.
    WindowNeverRefills,
    /// A fetch in the queue outlives its deadline.
    QueuedDeadlineIgnored,
    /// The wake of a batch stays at a deadline that has passed.
    BusyWake,
    /// A breaker that opened behind a connection never tries a probe.
    BreakerNeverHalfOpens,
    /// A single failed batch opens the breaker.
    FailureThresholdIgnored,

    // Membership.
    /// A lease that was lost is not granted anew.
    LeaseNotRegranted,
    /// A lease is believed in for its TTL from when the answer arrived.
    LeaseCountedFromAnswer,
    /// A record that vanished under a lease that lives is not put again.
    RecordNotPutAgain,
    /// A registration that succeeds behind a stop is left to stand.
    LateRegistrationKept,
    /// A watch skips a revision.
    WatchOneLate,
    /// An older change that comes late undoes a younger one.
    OlderChangeTaken,
    /// A view without any other member is believed at once.
    EmptyViewBelieved,

    // Removals.
    /// A member that said no counts as one that has forgotten.
    RefusalTakenForConsent,
    /// A member that was silent counts as one that has forgotten.
    SilenceTakenForConsent,
    /// Everybody is told of a removal together with the owner.
    OwnerNotFirst,

    // Rings.
    /// Slots go by the order in which members are listed.
    RingByListOrder,
    /// Of coinciding points that of the member listed first owns.
    PointTieTurned,
    /// A ring that is built from the one before leaves out who joins.
    JoinForgotten,
}

#[cfg(feature = "__canary")]
const NONE: u8 = u8::MAX;

#[cfg(feature = "__canary")]
static ON: AtomicU8 = AtomicU8::new(NONE);

/// Sets the one canary that is on, in the whole process.
#[cfg(feature = "__canary")]
pub fn set(canary: Option<Canary>) {
    ON.store(canary.map_or(NONE, |canary| canary as u8), Ordering::Relaxed);
}

/// Whether this canary is on.
#[cfg(feature = "__canary")]
#[inline]
pub(crate) fn is(canary: Canary) -> bool {
    ON.load(Ordering::Relaxed) == canary as u8
}

/// Never: the feature is off.
#[cfg(not(feature = "__canary"))]
#[inline]
pub(crate) const fn is(_canary: Canary) -> bool {
    false
}
