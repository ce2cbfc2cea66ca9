//! What every groupcache adapter shares.

#![forbid(unsafe_code)]

// The test runtime is shared with the tests outside, which know the crate by its name.
#[cfg(test)]
extern crate self as groupcache_runtime;

mod error;
#[allow(dead_code)]
mod hyper_rt;
#[allow(dead_code, unused_imports)]
mod registry;
mod retriever;
mod rt;
#[cfg(test)]
mod test_rt;
#[allow(dead_code, unused_imports)] // The server and the intent executor are built on it.
mod transport;
mod view;

pub use error::{Error, ErrorKind};
#[cfg(feature = "etcd")]
pub use registry::{EtcdConfig, EtcdRegistry};
pub use registry::{
    Granted, KeepAlive, Listing, MemoryRegistry, Registration, Registry, RegistryError, StaticRegistry,
};
pub use retriever::{Loaded, RetrieveError, Retriever};
pub use rt::{BoxFuture, Connection, Listener, Runtime};
pub use view::ByteView;
