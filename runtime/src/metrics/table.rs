//! The one list of all metrics: what is not here is not published.

use ::metrics::Unit;

/// One metric: what it is called, what it counts, and what tells its series apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, by the conventions of Prometheus.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// The unit of its values; `None` where it has none.
    pub unit: Option<Unit>,
    /// The labels of its series, in order.
    pub labels: &'static [&'static str],
    /// What it says, for people.
    pub help: &'static str,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum MetricKind {
    /// Only grows, from when the node was built.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl MetricKind {
    /// Its name, as Prometheus has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The kind of a metric whose help begins so, and its unit.
macro_rules! metrics {
    ($($id:ident = $kind:ident $unit:tt $name:literal [$($label:literal)*] $help:literal;)*) => {
        $(pub(super) const $id: &Metric = &Metric {
            name: $name,
            kind: MetricKind::$kind,
            unit: metrics!(@unit $unit),
            labels: &[$($label),*],
            help: $help,
        };)*

        /// Every metric that a node publishes.
        pub const METRICS: &[&Metric] = &[$($id),*];
    };
    (@unit -) => { None };
    (@unit s) => { Some(Unit::Seconds) };
    (@unit B) => { Some(Unit::Bytes) };
    (@unit n) => { Some(Unit::Count) };
}

metrics! {
    // Look-ups, by group.
    GETS = Counter n "groupcache_gets_total" ["group"] "Look-ups of callers and of peers.";
    HITS = Counter n "groupcache_hits_total" ["group" "level"] "Look-ups answered at once: by this node's own share (`main`), by a hot copy (`hot`), by a kept \"not found\" (`negative`), or by an expired value while it is loaded anew (`stale`).";
    MISSES = Counter n "groupcache_misses_total" ["group"] "Look-ups that found nothing and started a flight.";
    DEDUPLICATED = Counter n "groupcache_loads_deduplicated_total" ["group"] "Look-ups that joined a flight in progress.";
    SERVED = Counter n "groupcache_served_total" ["group"] "Look-ups made for peers.";
    REJECTED = Counter n "groupcache_rejected_total" ["group"] "Look-ups refused at a limit.";
    CANCELLED = Counter n "groupcache_cancelled_total" ["group"] "Callers that left before there was an answer.";
    STALE_RESCUES = Counter n "groupcache_stale_rescues_total" ["group"] "Callers answered by an expired value after a load had failed.";
    GET_SECONDS = Histogram s "groupcache_get_seconds" ["group" "outcome"] "How long a `get` took that was not answered at once. Hits are not timed.";
    GET_MANY_SECONDS = Histogram s "groupcache_get_many_seconds" ["group"] "How long a `get_many` took, to its last answer, where not all its keys were answered at once.";
    SERVED_SECONDS = Histogram s "groupcache_served_seconds" ["group" "outcome"] "How long a peer's request for a key took here that was not answered at once.";

    // Loads, by group.
    LOADS = Counter n "groupcache_loads_total" ["group"] "Loads asked of this node's origin.";
    REVALIDATIONS = Counter n "groupcache_revalidations_total" ["group"] "Loads that asked whether an expired value is still good.";
    LOAD_ERRORS = Counter n "groupcache_load_errors_total" ["group"] "Loads of this node's origin that failed, \"not found\" left out.";
    LOAD_NOT_FOUND = Counter n "groupcache_load_not_found_total" ["group"] "\"Not found\" answers of this node's origin.";
    LOAD_SECONDS = Histogram s "groupcache_load_seconds" ["group" "outcome"] "How long this node's origin took to answer. Loads that were stopped before are left out.";
    TIMEOUTS = Counter n "groupcache_timeouts_total" ["group"] "Flights that ran out of time.";
    ABANDONED = Counter n "groupcache_abandoned_total" ["group"] "Flights stopped because nobody waited any more.";
    PEER_FETCHES = Counter n "groupcache_peer_fetches_total" ["group"] "Keys asked of peers.";
    PEER_ERRORS = Counter n "groupcache_peer_errors_total" ["group"] "Keys asked of peers that got no answer and were asked elsewhere.";

    // What is kept, by group.
    ENTRIES = Gauge n "groupcache_entries" ["group"] "Entries held. Those that have expired or were flushed count until their place is reclaimed.";
    ENTRY_BYTES = Gauge B "groupcache_entry_bytes" ["group"] "Bytes charged for the entries, overhead included.";
    FLIGHTS = Gauge n "groupcache_flights" ["group"] "Loads in progress.";
    EVICTIONS = Counter n "groupcache_evictions_total" ["group"] "Entries that made place for others.";
    RECLAIMED = Counter n "groupcache_reclaimed_total" ["group"] "Expired or flushed entries whose place was reclaimed.";
    NOT_STORED = Counter n "groupcache_not_stored_total" ["group"] "Values that were delivered and not kept: too large for their share, not admitted, out of time, or a successor's.";
    OVERSIZE = Counter n "groupcache_oversize_total" ["group"] "Values over the value limit.";
    FENCED = Counter n "groupcache_fenced_dropped_total" ["group"] "Results of loads that began before a removal or flush, delivered and not kept.";
    REMOVALS = Counter n "groupcache_removals_total" ["group"] "Keys removed here, whether they were held or not.";
    SPREAD = Counter n "groupcache_removals_spread_total" ["group" "outcome"] "Removals and flushes begun here and told to the fleet: every member has acknowledged (`acknowledged`), or not every one (`unacknowledged`).";
    UNACKNOWLEDGED = Counter n "groupcache_unacknowledged_members_total" ["group"] "Members that did not acknowledge a removal or flush begun here.";

    // The node.
    CACHE_BYTES = Gauge B "groupcache_cache_bytes" [] "Bytes charged to the budget: all entries, and the policies' own tables.";
    BUDGET_BYTES = Gauge B "groupcache_budget_bytes" [] "The budget.";
    WAITERS = Gauge n "groupcache_waiters" [] "Callers that wait.";
    STALE_RESULTS = Counter n "groupcache_stale_dispositions_total" [] "Late, duplicate or unknown results, ignored.";
    CLAMPED_TIME = Counter n "groupcache_clamped_time_total" [] "Calls whose time lay before that of an earlier call.";
    CONNECTIONS = Gauge n "groupcache_peer_connections" [] "Connections that peers have made to this node.";
    MISMATCHES = Counter n "groupcache_fingerprint_mismatches_total" [] "Requests of peers whose ring places keys in another way.";
    READY = Gauge - "groupcache_ready" [] "1 while the node runs and has joined the fleet, else 0.";
    INFO = Gauge - "groupcache_info" ["version" "placement"] "Always 1: what the node is, in its labels.";

    // What is asked of peers, by peer.
    PEER_STATE = Gauge - "groupcache_peer_state" ["peer"] "How this node stands to the peer: 0 up, 1 idle (nothing was asked yet), 2 dialling, 3 probing (connected, on trial), 4 redialling (the breaker is open), 5 down (the breaker is open), 6 leaving, 7 closed.";
    PEER_KEYS = Counter n "groupcache_peer_keys_total" ["peer"] "Keys sent to the peer.";
    PEER_BATCHES = Counter n "groupcache_peer_batches_total" ["peer"] "Batches sent to the peer.";
    PEER_BATCH_KEYS = Histogram n "groupcache_peer_batch_keys" ["peer"] "Keys in a batch.";
    PEER_FETCH_SECONDS = Histogram s "groupcache_peer_fetch_seconds" ["peer" "outcome"] "How long the peer took over a key, from when its batch was sent: to an answer (`answered`), or until the batch had failed (`failed`).";
    PEER_FAILED_BATCHES = Counter n "groupcache_peer_failed_batches_total" ["peer"] "Batches that failed as a whole.";
    PEER_UNANSWERED = Counter n "groupcache_peer_unanswered_keys_total" ["peer"] "Keys that got no answer.";
    PEER_REFUSED = Counter n "groupcache_peer_refused_total" ["peer" "reason"] "Keys that were not asked of the peer: its breaker was open (`down`), or too many waited (`queue_full`).";
    PEER_OPENED = Counter n "groupcache_peer_breaker_opened_total" ["peer"] "Times the breaker opened.";
    PEER_DIALS = Counter n "groupcache_peer_dials_total" ["peer"] "Dials.";
    PEER_STALE = Counter n "groupcache_peer_stale_answers_total" ["peer"] "Late, duplicate or unknown answers, ignored.";
    PEER_QUEUED = Gauge n "groupcache_peer_queued_keys" ["peer"] "Keys that wait to be sent.";
    PEER_OPEN_BATCHES = Gauge n "groupcache_peer_open_batches" ["peer"] "Batches that were sent and are not complete.";

    // The ring, as this node sees it.
    RING_EPOCH = Gauge - "groupcache_ring_epoch" [] "Grows with every change that this node has seen. Not comparable between nodes.";
    RING_MEMBERS = Gauge n "groupcache_ring_members" [] "Members of the ring.";
    RING_SHARE = Gauge - "groupcache_ring_share_ratio" [] "This node's part of the keys over an even part: 1 is even, 0 is none.";
    RING_PEAK = Gauge - "groupcache_ring_peak_ratio" [] "The largest member's part of the keys over an even part.";

    // The registry.
    REGISTERED = Gauge - "groupcache_registry_registered" [] "1 while this node's record stands in the registry, else 0.";
    REGISTRY_AGE = Gauge s "groupcache_registry_age_seconds" [] "How long ago the registry last confirmed this node's record: a registration or a keep-alive.";
    REGISTRATIONS = Counter n "groupcache_registry_registrations_total" [] "Registrations that the registry confirmed; all but the first are repairs.";
    LEASES_LOST = Counter n "groupcache_registry_leases_lost_total" [] "Leases that ended under this node: lost, or not kept alive in time.";
    KEEP_ALIVES = Counter n "groupcache_registry_keep_alives_total" [] "Keep-alives that the registry confirmed.";
    REGISTRY_FAILURES = Counter n "groupcache_registry_failures_total" [] "Operations that failed or were not answered in time.";
    LISTS = Counter n "groupcache_registry_lists_total" [] "Lists of the members that were taken.";
    WATCHES = Counter n "groupcache_registry_watches_total" [] "Watches that were opened.";
    WATCHES_ENDED = Counter n "groupcache_registry_watches_ended_total" [] "Watches that ended or were compacted away.";
    WATCH_MISSED = Counter n "groupcache_registry_watch_missed_total" [] "Lists that knew what an open watch should have told.";
    REVISION_REGRESSIONS = Counter n "groupcache_registry_revision_regressions_total" [] "Times that the registry's revision went backwards: it lost its data.";
    RECORD_MISSING = Counter n "groupcache_registry_record_missing_total" [] "Times that this node's record was missing although it was registered.";
    VIEWS_WITHHELD = Counter n "groupcache_registry_views_withheld_total" [] "Views that lost all other members and had to be confirmed first.";
    MEMBERS_REFUSED = Counter n "groupcache_registry_members_refused_total" [] "Members left out because a view had more than the limit, and changes not taken because there were too many records.";
}
