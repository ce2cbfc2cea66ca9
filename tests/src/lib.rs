//! What the tests of groupcache share.
