//! What the fuzz bodies of the test crate drive: the parts of this crate that read what others wrote.

use groupcache_core::MemberRecord;

use crate::registry::record;
use crate::transport::replay_authority;

/// What the server's HTTP/2 library reads of a connection on which `pieces` arrive, when it takes up to `room` bytes at a time.
#[must_use]
pub fn authority<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, room: usize) -> Vec<u8> {
    replay_authority(pieces, room)
}

/// The key and the value of a member's record in etcd.
#[must_use]
pub fn write_record(addr: &str, weight: u32) -> (String, String) {
    (record::key(addr), record::value(addr, weight))
}

/// Reads a record in etcd; where it is none, in words why.
///
/// # Errors
/// It is no record.
pub fn read_record(key: &[u8], value: &[u8]) -> Result<MemberRecord, String> {
    record::parse(key, value).map_err(|error| error.to_string())
}
