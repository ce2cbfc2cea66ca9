//! What every groupcache adapter shares.

#![forbid(unsafe_code)]

mod error;
#[allow(dead_code)]
mod hyper_rt;
mod retriever;
mod rt;
#[cfg(test)]
mod test_rt;
#[allow(dead_code, unused_imports)] // The server and the intent executor are built on it.
mod transport;
mod view;

pub use error::{Error, ErrorKind};
pub use retriever::{Loaded, RetrieveError, Retriever};
pub use rt::{BoxFuture, Connection, Listener, Runtime};
pub use view::ByteView;
