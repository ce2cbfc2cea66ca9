//! What to know before a service depends on it: promises, errors, removal, freshness, counters, discovery, security. There is no code here.
//!
//! # What a `get` promises
//!
//! - **One load.** However many callers on however many members ask for a cold key, its owner loads it once. Whoever comes while it is loaded
//!   waits for the same load. (Members that disagree on who is there, for the moment that a change takes to reach all, may load it once each.)
//! - **One hop.** A request that came from another member is answered from its cache or its origin, never passed on. Members that disagree
//!   answer each other all the same.
//! - **A deadline.** [`get`](crate::Group::get) waits for the [load time-out](crate::ServerBuilder::load_timeout) at most, 30 s by default,
//!   [`get_within`](crate::Group::get_within) for as long as it is told. What is left of it travels to the owner.
//! - **Nobody waits for somebody else's patience.** A dropped or impatient call leaves the load to the others, and by default the load
//!   [finishes](crate::ServerBuilder::on_abandoned), so that a slow origin fills the cache in the end.
//! - **A dead member costs one dial.** Its keys go to the next member in line, one loader for all, until it is back. After two members that cannot
//!   answer, a node asks its own origin: it gives values as long as that does.
//! - **An outage of the registry is not one of the cache.** The last members known stay until it is back.
//! - **A bound.** All entries together, keys and overhead included, stay within the [budget](crate::ServerBuilder::budget). A value that is
//!   larger than a [shard](crate::ServerBuilder::shards) of it is delivered and not kept.
//!
//! Values are bytes, immutable, and cheap to clone: [`ByteView`](crate::ByteView). A hit copies and allocates nothing.
//!
//! # Errors to act on
//!
//! An [`Error`](crate::Error) has a [kind](crate::Error::kind), the same on the member that asked as on the one that failed, and the cause as its
//! [source](std::error::Error::source).
//!
//! | [`ErrorKind`](crate::ErrorKind) | means | what to do, and an HTTP status for it |
//! |---|---|---|
//! | `NotFound` | the origin says that there is no such key; kept for the [negative TTL](crate::GroupBuilder::negative_ttl) | tell the client: 404 |
//! | `InvalidKey` | the key is empty, too long, or the origin refuses its form | tell the client: 400 |
//! | `OriginFailed` | the origin was asked, and failed or panicked. Not kept: the next `get` asks again | look at the source: 502 |
//! | `ValueTooLarge` | the value is over [`max_value`](crate::ServerBuilder::max_value) | raise the limit, or do not cache it: 502 |
//! | `Deadline` | time ran out | be patient, or find out what is slow: 504 |
//! | `Overloaded` | a limit on loads or waiters is reached | shed load: 503 |
//! | `Stopping` | this node has stopped | 503 |
//! | `NoSuchGroup` | the group was destroyed | a mistake in the service: 500 |
//!
//! In a retriever `?` makes a failure of any error. [`RetrieveError::not_found`](crate::RetrieveError::not_found) is the one to say on purpose: it is an
//! answer, and cached as one.
//!
//! # Removal
//!
//! Change the origin first, then [`remove`](crate::Group::remove) the key, on any member. The owner forgets it, then everybody else, and a load
//! that began before the removal serves who waits already and enters no cache. The [report](crate::RemoveReport) names members that did not
//! acknowledge: what they hold lives for at most the [hot TTL](crate::ServerBuilder::hot_ttl), 30 s by default. [`flush`](crate::Group::flush) does it
//! for all keys of a group at once.
//!
//! # Freshness
//!
//! Without a TTL a value lives for as long as it is worth its place. A [TTL](crate::GroupBuilder::ttl) is of a group, or of a value
//! ([`Loaded::with_ttl`](crate::Loaded::with_ttl)), with [jitter](crate::GroupBuilder::ttl_jitter_per_mille) where keys are loaded together. An expired value
//! can bridge the time that a [reload takes](crate::GroupBuilder::stale_while_revalidate), or that the [origin is
//! away](crate::GroupBuilder::stale_if_error). Copies at members that do not own the key never outlive the owner's.
//!
//! # Counters
//!
//! [`Server::stats`](crate::Server::stats) has them by name, and serializes to one flat object. What to watch:
//!
//! | counter | tells |
//! |---|---|
//! | `gets`, `main_hits`, `hot_hits` | the hit ratio: hits by gets |
//! | `loads`, `load_errors`, `load_not_found` | what the origin bears, and how it bears it |
//! | `loads_deduplicated` | callers who did not have to ask the origin because somebody had |
//! | `peer_fetches`, `peer_errors`, `peer_breaker_opened` | traffic between members, and how it fares |
//! | `evictions`, `bytes`, `budget` | whether the budget is large enough |
//! | `rejected`, `timeouts` | limits that were reached |
//! | `fingerprint_mismatches` | members that disagree on who is there: a moment during changes, else a mistake in somebody's list |
//!
//! The same by group is [`Server::group_stats`](crate::Server::group_stats), and by peer [`Server::peer_stats`](crate::Server::peer_stats). With the feature
//! `metrics` all of it goes to Prometheus, or to what else the crate `metrics` has exporters for, with histograms of what takes time:
//! `Server::publish_metrics`, and `METRICS.md` for what each of them says.
//!
//! [`Server::ring`](crate::Server::ring) says who is a member, who is reached, and which part of the keys each has;
//! [`Server::is_ready`](crate::Server::is_ready) is for a readiness probe. What happens is told through `tracing`: nothing on the path of a `get`, unless
//! [`ServerBuilder::tracing`](crate::ServerBuilder::tracing) gives spans to those that are no hits: see [`trace`](crate::trace).
//!
//! For people who look: [`Server::live`](crate::Server::live) shows the node at work, with peers' latencies, loads in progress, the last errors and, with
//! [`hot_keys`](crate::ServerBuilder::hot_keys), the keys that are looked up most. [`Group::explain`](crate::Group::explain) tells of one key whose it is, whether
//! it is kept, and what became of its last load. Both serialize, and name keys: show them to whom values may be shown.
//!
//! # Members
//!
//! [`peers`](crate::ServerBuilder::peers) takes a fixed list, which [`set_peers`](crate::Server::set_peers) replaces while the node runs.
//! [`registry`](crate::ServerBuilder::registry) takes anything that is a [`Registry`](crate::Registry): `EtcdRegistry` with feature `etcd`,
//! [`MemoryRegistry`](crate::MemoryRegistry) within one process, or your own.
//!
//! # Security
//!
//! Between members, and towards etcd, plain text is spoken unless told otherwise: whoever reaches the port can read and remove what is cached.
//! Keep it on a network of your own, or set a [`Security`](crate::Security): with feature `tls`, `Tls` made from a `TlsConfig` asks both ends for a certificate of
//! an authority of yours. All members use it, or none: a fleet is moved over with a restart of all, or by way of a second fleet.
