//! What membership counts.

/// Counters of a [`Membership`](crate::Membership), since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MembershipStats {
    /// Registrations that the registry confirmed; all but the first are repairs.
    pub registrations: u64,
    /// Leases that ended under us: lost, or not kept alive in time.
    pub leases_lost: u64,
    /// Keep-alives that the registry confirmed.
    pub keep_alives: u64,
    /// Operations that failed or were not answered in time.
    pub failures: u64,
    /// Lists that were taken.
    pub lists: u64,
    /// Watches that were opened.
    pub watches: u64,
    /// Watches that ended or were compacted away.
    pub watches_ended: u64,
    /// Lists that knew what an open watch should have told.
    pub watch_missed: u64,
    /// Times that the registry's revision went backwards: it lost its data.
    pub revision_regressions: u64,
    /// Times that our own record was missing although we were registered.
    pub record_missing: u64,
    /// Views that lost all other members and had to be confirmed first.
    pub views_withheld: u64,
    /// Members left out because a view had more than the limit, and changes not taken because there were too many records.
    pub members_refused: u64,
    /// Answers and watch events that were late, duplicates, or never asked for.
    pub stale_dispositions: u64,
    /// Calls whose `now` lay before an earlier one's.
    pub clamped_time: u64,
}
