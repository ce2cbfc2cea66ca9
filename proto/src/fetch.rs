//! The keys of a batch: how a request is filled, and how it is read.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::convert::whole_millis;
use crate::v1;

impl v1::FetchRequest {
    /// A request without keys, from a node whose ring has this fingerprint.
    #[must_use]
    pub fn new(fingerprint: u64) -> Self {
        Self { fingerprint, ..Self::default() }
    }

    /// Adds a key, and how long its answer is waited for (rounded down to whole milliseconds, at most 49 days; `None`: as long as for the
    /// call). Indexes count up from 0 in the order of these calls. Linear in the number of groups that the request speaks of.
    pub fn push(&mut self, group: &str, key: impl Into<Bytes>, remaining: Option<Duration>) {
        let known = self.groups.iter().rposition(|name| name == group);
        let index = known.unwrap_or_else(|| {
            self.groups.push(group.to_owned());
            self.groups.len() - 1
        });
        self.keys.push(v1::Key {
            // There are never 2^32 groups in memory; an index that no group has is refused by the reader.
            group: u32::try_from(index).unwrap_or(u32::MAX),
            key: key.into(),
            remaining_ms: remaining.map(|time| u32::try_from(whole_millis(time)).unwrap_or(u32::MAX)),
            ..v1::Key::default()
        });
    }

    /// Says which trace the key that was pushed last is asked for in.
    pub fn set_trace(&mut self, traceparent: impl Into<String>, tracestate: impl Into<String>) {
        if let Some(key) = self.keys.last_mut() {
            (key.traceparent, key.tracestate) = (traceparent.into(), tracestate.into());
        }
    }

    /// The keys with their indexes, in order.
    ///
    /// # Errors
    /// A key names a group that the request does not list: the request is malformed as a whole.
    pub fn entries(&self) -> Result<impl Iterator<Item = FetchKey<'_>>, BadFetchRequest> {
        let groups = self.groups.len();
        if let Some(key) = self.keys.iter().find(|key| key.group as usize >= groups) {
            return Err(BadFetchRequest { group: key.group, groups });
        }
        Ok((0..).zip(&self.keys).filter_map(|(index, key)| {
            Some(FetchKey {
                index,
                group: self.groups.get(key.group as usize)?,
                key: &key.key,
                remaining: key.remaining_ms.map(|millis| Duration::from_millis(millis.into())),
                traceparent: &key.traceparent,
                tracestate: &key.tracestate,
            })
        }))
    }
}

/// One key of a request, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchKey<'a> {
    /// The number that its answer carries.
    pub index: u32,
    /// The name of its group.
    pub group: &'a str,
    /// The key.
    pub key: &'a Bytes,
    /// How long the asker waits for it, from when it sent the request.
    pub remaining: Option<Duration>,
    /// The trace that it is asked for in, as it was sent: any text; empty where nothing was.
    pub traceparent: &'a str,
    /// What goes with it: any text.
    pub tracestate: &'a str,
}

/// A key of a request names a group that the request does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFetchRequest {
    group: u32,
    groups: usize,
}

impl fmt::Display for BadFetchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key is of group number {}, but the request names {} groups", self.group, self.groups)
    }
}

impl Error for BadFetchRequest {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_several_groups_keep_their_order() {
        let mut request = v1::FetchRequest::new(9);
        request.push("a", &b"1"[..], None);
        request.push("b", &b"\xff"[..], Some(Duration::from_micros(2_500)));
        request.push("a", &b""[..], Some(Duration::MAX));

        assert_eq!(request.groups, ["a", "b"]);
        let read: Vec<_> = request
            .entries()
            .expect("it was filled here")
            .map(|entry| (entry.index, entry.group, &entry.key[..], entry.remaining))
            .collect();
        let most = Duration::from_millis(u32::MAX.into());
        assert_eq!(
            read,
            [
                (0, "a", &b"1"[..], None),
                (1, "b", b"\xff", Some(Duration::from_millis(2))),
                (2, "a", b"", Some(most))
            ]
        );
    }

    #[test]
    fn a_key_carries_the_trace_that_it_was_pushed_with_and_others_none() {
        let mut request = v1::FetchRequest::new(0);
        request.set_trace("of no key", "");
        request.push("a", &b"1"[..], None);
        request.push("a", &b"2"[..], None);
        request.set_trace("00-...", "a=1");
        let entries = request.entries().expect("it was filled here");
        let traces: Vec<_> = entries.map(|entry| (entry.traceparent, entry.tracestate)).collect();
        assert_eq!(traces, [("", ""), ("00-...", "a=1")]);
    }

    #[test]
    fn a_key_of_a_group_that_is_not_listed_spoils_the_request() {
        let mut request = v1::FetchRequest::new(0);
        request.push("a", &b"1"[..], None);
        request.keys.push(v1::Key { group: 1, ..v1::Key::default() });
        assert_eq!(request.entries().err(), Some(BadFetchRequest { group: 1, groups: 1 }));
    }
}
