//! groupcache on the wire.
