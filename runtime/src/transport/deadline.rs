//! Time limits of calls: our own, and what a caller writes into `grpc-timeout`.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::rt::Runtime;

/// `work`'s result, or `None` when it takes longer than `limit`. `work` is polled first: what is done in time counts.
pub(super) async fn within<T>(rt: &dyn Runtime, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), rt.sleep(limit)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(((), _)) => None,
    }
}

/// How long the caller of a request waits, where it says so. tonic's generated servers leave that to whoever runs them.
///
/// # Errors
/// INVALID_ARGUMENT for what is not at most eight digits and a unit.
pub(super) fn timeout_of(metadata: &MetadataMap) -> Result<Option<Duration>, Box<Status>> {
    let Some(header) = metadata.get("grpc-timeout") else { return Ok(None) };
    match header.to_str().ok().and_then(parse_timeout) {
        Some(limit) => Ok(Some(limit)),
        None => Err(Box::new(Status::invalid_argument("malformed grpc-timeout"))),
    }
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_grpc_writes_it() {
        assert_eq!(parse_timeout("9999972u"), Some(Duration::from_micros(9_999_972)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout("0n"), Some(Duration::ZERO));
        for garbage in ["", "5", "S", "-1S", "+1S", "1 S", "1s", "123456789S", "1ß", "ß"] {
            assert_eq!(parse_timeout(garbage), None, "{garbage:?}");
        }
    }
}
