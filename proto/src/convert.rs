//! Failures and answers: wire <-> core.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use groupcache_core::{Failure, FailureKind, Outcome, Value, in_words};

use crate::v1;

/// How many bytes of an error's text cross the wire. In a gRPC status the text is a header, percent-encoded: three times this must fit into
/// what HTTP/2 peers take as headers (16 KiB with hyper).
const MAX_TEXT: usize = 1024;

impl v1::Item {
    /// The answer for the key at `index`: a value with the time it will still be kept (`None`: it does not expire), or a failure.
    #[must_use]
    pub fn new(index: u32, result: Result<(Value, Option<Duration>), &Failure>) -> Self {
        match result {
            Ok((value, ttl)) => Self {
                index,
                ttl_ms: ttl.map(whole_millis),
                meta: Bytes::copy_from_slice(value.meta()),
                result: Some(v1::item::Result::Value(Bytes::from(value))),
            },
            Err(failure) => {
                let result = Some(v1::item::Result::Failure(failure.into()));
                Self { index, result, ..Self::default() }
            }
        }
    }

    /// Which key this answers, and how. The value is copied, once, into an allocation of its size: the message's bytes may be a slice of a
    /// whole receive buffer.
    #[must_use]
    pub fn into_outcome(self) -> (u32, Outcome) {
        let outcome = match self.result {
            Some(v1::item::Result::Value(value)) => match Value::with_meta(&value, &self.meta) {
                Ok(value) => Outcome::Value { value, ttl: self.ttl_ms.map(Duration::from_millis) },
                Err(too_long) => {
                    Outcome::Failed(Failure::with_cause(FailureKind::ValueTooLarge, Arc::new(too_long)))
                }
            },
            Some(v1::item::Result::Failure(failure)) => Outcome::from_peer(failure.into()),
            None => Outcome::Unreachable(
                Failure::with_message(FailureKind::OriginFailed, "the peer's answer is empty").cause,
            ),
        };
        (self.index, outcome)
    }
}

/// All errors behind `error` [in words](in_words), cut at 1 KiB. Empty where there is none.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    error.source().map_or_else(String::new, |cause| cut(in_words(cause)))
}

/// `text`, cut at a character's border so that it has at most [`MAX_TEXT`] bytes.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        Self { kind: v1::FailureKind::from(failure.kind).into(), message: causes(failure) }
    }
}

impl From<v1::Failure> for Failure {
    fn from(failure: v1::Failure) -> Self {
        match kind_of_number(failure.kind) {
            Some(kind) if failure.message.is_empty() => Self::new(kind),
            Some(kind) => Self::with_message(kind, cut(failure.message)),
            None => Self::with_message(
                FailureKind::OriginFailed,
                cut(format!("a failure of unknown kind {}: {}", failure.kind, failure.message)),
            ),
        }
    }
}

impl From<FailureKind> for v1::FailureKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::NotFound => Self::NotFound,
            FailureKind::Overloaded => Self::Overloaded,
            FailureKind::Deadline => Self::Deadline,
            FailureKind::NoSuchGroup => Self::NoSuchGroup,
            FailureKind::InvalidKey => Self::InvalidKey,
            FailureKind::ValueTooLarge => Self::ValueTooLarge,
            FailureKind::Stopping => Self::Stopping,
            // The kind that a reader takes an unknown one for.
            _ => Self::OriginFailed,
        }
    }
}

/// The wire numbers the kinds from 1, in the order of [`FailureKind::ALL`].
fn kind_of_number(number: i32) -> Option<FailureKind> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    FailureKind::ALL.get(index).copied()
}

/// Rounded down: a reader must never keep a value longer than its owner does.
pub(crate) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use groupcache_core::MAX_META;
    use prost::Message;

    use super::*;

    #[test]
    fn every_kind_of_failure_crosses_the_wire_with_its_cause() {
        for kind in FailureKind::ALL {
            let sent = Failure::with_message(kind, "because");
            let got = Failure::from(v1::Failure::from(&sent));
            assert_eq!((got.kind, causes(&got).as_str()), (kind, "because"));
            assert!(Failure::from(v1::Failure::from(&Failure::new(kind))).cause.is_none());
        }
    }

    #[test]
    fn a_kind_from_the_future_reads_as_a_failed_origin() {
        for number in [0, 9, -1, i32::MIN, i32::MAX] {
            let got = Failure::from(v1::Failure { kind: number, message: "new".to_owned() });
            assert_eq!(got.kind, FailureKind::OriginFailed);
            assert!(causes(&got).contains(&number.to_string()), "{got:?}");
        }
    }

    #[test]
    fn a_value_crosses_the_wire_with_its_ttl_rounded_down() {
        for (ttl, wanted) in [
            (None, None),
            (Some(Duration::ZERO), Some(Duration::ZERO)),
            (Some(Duration::from_micros(1_999)), Some(Duration::from_millis(1))),
            (Some(Duration::MAX), Some(Duration::from_millis(u64::MAX))),
        ] {
            for value in [&b""[..], b"value"] {
                let item = v1::Item::new(7, Ok((Value::from(value), ttl)));
                let (index, outcome) =
                    v1::Item::decode(&item.encode_to_vec()[..]).expect("it was encoded here").into_outcome();
                let Outcome::Value { value: got, ttl } = outcome else { panic!("{outcome:?}") };
                assert_eq!((index, got.as_bytes(), ttl), (7, value, wanted));
            }
        }
    }

    #[test]
    fn metadata_crosses_the_wire_with_its_value_up_to_the_limit_and_is_refused_beyond() {
        for meta in [&b""[..], b"m", &[7; MAX_META]] {
            let sent = Value::with_meta(b"value", meta).expect("not too much");
            let item = v1::Item::new(7, Ok((sent.clone(), None)));
            let bytes = item.encode_to_vec();
            let without = v1::Item::new(7, Ok((Value::from(&b"value"[..]), None))).encoded_len();
            assert_eq!(bytes.len() == without, meta.is_empty(), "what is not there takes no place");
            let (_, outcome) = v1::Item::decode(&bytes[..]).expect("it was encoded here").into_outcome();
            let Outcome::Value { value, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(value, sent);
        }
        let mut hostile = v1::Item::new(7, Ok((Value::from(&b"value"[..]), None)));
        hostile.meta = Bytes::from(vec![7; MAX_META + 1]);
        let (_, outcome) = hostile.into_outcome();
        let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.kind, FailureKind::ValueTooLarge);
        assert!(causes(&failure).contains("4097"), "{failure:?}");
    }

    #[test]
    fn what_a_peer_says_of_itself_is_no_answer() {
        for kind in FailureKind::ALL {
            let of_itself =
                matches!(kind, FailureKind::Overloaded | FailureKind::NoSuchGroup | FailureKind::Stopping);
            match Outcome::from_peer(Failure::new(kind)) {
                Outcome::Unreachable(Some(_)) => assert!(of_itself, "{kind:?}"),
                Outcome::Failed(failure) => assert_eq!((of_itself, failure.kind), (false, kind)),
                other => panic!("{other:?}"),
            }
        }
        let empty = v1::Item { index: 1, ..v1::Item::default() };
        assert!(matches!(empty.into_outcome(), (1, Outcome::Unreachable(Some(_)))));
    }

    #[test]
    fn a_long_cause_is_cut_at_a_character() {
        let failure = Failure::with_message(FailureKind::OriginFailed, "ß".repeat(MAX_TEXT));
        let text = v1::Failure::from(&failure).message;
        assert_eq!(text, "ß".repeat(MAX_TEXT / 2));
    }

    #[test]
    fn garbage_is_decoded_or_refused_and_never_panics() {
        let valid = {
            let mut request = v1::FetchRequest::new(1);
            request.push("g", &b"key"[..], Some(Duration::from_millis(3)));
            let item = v1::Item::new(0, Err(&Failure::with_message(FailureKind::Deadline, "x")));
            let reply = v1::FetchReply { items: vec![item], fingerprint: Some(1) };
            [request.encode_to_vec(), reply.encode_to_vec()]
        };
        // A linear congruential generator: the same bytes in every run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..20_000_usize {
            let mut bytes = valid[round % 2].clone();
            for _ in 0..=(round % 4) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 56) as u8;
            }
            if let Ok(request) = v1::FetchRequest::decode(&bytes[..]) {
                let _ = request.entries().map(Iterator::count);
            }
            if let Ok(reply) = v1::FetchReply::decode(&bytes[..]) {
                for item in reply.items {
                    let _ = item.into_outcome();
                }
            }
        }
    }
}
