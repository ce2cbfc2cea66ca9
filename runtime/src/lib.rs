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
mod builder;
mod clock;
mod engine;
mod error;
mod group;
mod groups;
pub mod guide;
mod hyper_rt;
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
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod view;

pub use builder::{DEFAULT_ADDR, ServerBuilder};
pub use error::{Error, ErrorKind};
pub use group::{Group, GroupBuilder, Lookup, RemoveReport};
pub use groupcache_core::{
    ConfigError, Eviction, Level, LinkConfig, MetaTooLong, OnAbandoned, Placement, in_words,
};
#[cfg(feature = "etcd")]
pub use registry::{EtcdConfig, EtcdRegistry, EtcdUser};
pub use registry::{
    Granted, KeepAlive, Listing, MemoryRegistry, Registration, Registry, RegistryError, StaticRegistry,
};
pub use report::{MemberView, RingView, Stats};
pub use retriever::{Loaded, RetrieveError, Retriever, Revalidated};
pub use rt::{BoxFuture, Connection, Listener, Runtime};
pub use secure::Security;
pub use server::{GroupError, Server, StartError, Status, StopReport};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsConfig, TlsConfigError, TlsError};
pub use view::ByteView;
