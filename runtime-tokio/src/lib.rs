//! groupcache on tokio.
