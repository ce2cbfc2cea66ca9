//! What every groupcache adapter shares.

#![forbid(unsafe_code)]

mod error;
#[allow(dead_code)]
mod hyper_rt;
mod retriever;
mod rt;
mod view;

pub use error::{Error, ErrorKind};
pub use retriever::{Loaded, RetrieveError, Retriever};
pub use rt::{BoxFuture, Connection, Listener, Runtime};
pub use view::ByteView;
