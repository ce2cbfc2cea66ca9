//! What every groupcache adapter shares: the public API, the engine that carries out the core's intents, gRPC both ways, registries.
//!
//! No runtime is named here. `groupcache-tokio` and `groupcache-async-std` are this crate with a [`Runtime`] each; use one of them.

#![forbid(unsafe_code)]

// The test runtime is shared with the tests outside, which know the crate by its name.
#[cfg(test)]
extern crate self as groupcache_runtime;

#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub mod __fuzz;
mod alarm;
mod bell;
mod builder;
mod clock;
mod engine;
mod error;
mod group;
mod groups;
pub mod guide;
mod hyper_rt;
#[cfg(not(feature = "metrics"))]
mod meter;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(shuttle)]
mod models;
mod peers;
mod registry;
mod report;
mod retriever;
mod rt;
mod secure;
mod server;
mod service;
mod sync;
#[cfg(test)]
mod test_rt;
#[cfg(any(feature = "dns", feature = "tls"))]
mod thread;
#[cfg(feature = "tls")]
mod tls;
mod tokens;
pub mod trace;
mod transport;
mod view;
mod watch;

#[cfg(feature = "metrics")]
use metrics::meter;

pub use builder::{DEFAULT_ADDR, ServerBuilder};
pub use error::{Error, ErrorKind};
pub use group::{Group, GroupBuilder, Lookup, RemoveReport};
pub use groupcache_core::{
    ConfigError, Eviction, Level, LinkConfig, MetaTooLong, OnAbandoned, Placement, in_words,
};
#[cfg(feature = "dns")]
pub use registry::{DnsConfig, DnsRegistry};
#[cfg(feature = "etcd")]
pub use registry::{EtcdConfig, EtcdRegistry, EtcdUser};
pub use registry::{
    Granted, KeepAlive, Listing, MemoryRegistry, Registration, Registry, RegistryError, StaticRegistry,
};
pub use report::{MemberView, PeerView, RingView, Stats};
pub use retriever::{Loaded, RetrieveError, Retriever, Revalidated};
pub use rt::{BoxFuture, Connection, Listener, Runtime};
pub use secure::{Accepted, PeerIdentity, Security};
pub use server::{GroupError, Server, StartError, Status, StopReport};
#[cfg(feature = "tls")]
pub use tls::{ReloadingTls, Tls, TlsConfig, TlsConfigError, TlsError};
pub use tokens::{Access, TokenRefused, Tokens, TokensError};
pub use view::ByteView;
pub use watch::{
    ErrorReport, Explanation, FlightReport, HotKeyReport, HotKeysReport, KeptReport, Latency, Live,
    OutcomeReport, PeerReport, ShareReport,
};
