//! A value as an HTTP answer: whole, a part of it, or that the client has it already. RFC 9110.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use groupcache_core::Level;
use groupcache_runtime::Lookup;
use hyper::header::{
    ACCEPT_RANGES, AGE, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    RANGE,
};
use hyper::{Method, Response, StatusCode};

use super::body::Frames;
use crate::head::{Head, opaque, same_tag};

/// What a GET or HEAD with these header fields gets of a value.
pub(super) fn answer(method: &Method, request: &HeaderMap, found: Lookup) -> Response<Frames> {
    let head = Head::from_meta(found.value.meta());
    let bytes = found.value.into_bytes();
    let mut response = match precondition(request, &head) {
        Precondition::Holds => content(method, request, &head, bytes),
        Precondition::NotModified => empty(StatusCode::NOT_MODIFIED),
        Precondition::Failed => empty(StatusCode::PRECONDITION_FAILED),
    };
    let has_content = response.status().is_success();
    let headers = response.headers_mut();
    for (name, value) in head.fields() {
        // "Not modified" says what a client may update in what it has, and an answer without a value nothing about one.
        if has_content || !name.as_str().starts_with("content-") {
            headers.insert(name, value.clone());
        }
    }
    if has_content {
        // Its pages may be anybody's: no script of theirs gets to act on this node in the name of who looks at them.
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/octet-stream"));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    if let Some(age) = age(&head, found.level, found.ttl) {
        headers.insert(AGE, age.as_secs().into());
    }
    response
}

/// How old the value is, where it does not come from its origin this moment.
fn age(head: &Head, level: Level, left: Option<Duration>) -> Option<Duration> {
    head.age_with(left).filter(|age| level != Level::Origin || age.as_secs() > 0)
}

fn content(method: &Method, request: &HeaderMap, head: &Head, bytes: Bytes) -> Response<Frames> {
    // A range is for a GET to ask.
    let asked = request.get(RANGE).filter(|_| *method == Method::GET && is_for_this(request, head));
    let len = bytes.len();
    match asked.map_or(Part::Whole, |asked| Part::of(asked.as_bytes(), len)) {
        Part::Whole => Response::new(Frames::from(bytes)),
        Part::Range(range) => {
            let place = format!("bytes {}-{}/{len}", range.start, range.end - 1);
            placed(StatusCode::PARTIAL_CONTENT, bytes.slice(range), &place)
        }
        Part::None => placed(StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new(), &format!("bytes */{len}")),
    }
}

fn placed(status: StatusCode, bytes: Bytes, place: &str) -> Response<Frames> {
    let mut response = Response::new(Frames::from(bytes));
    *response.status_mut() = status;
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(CONTENT_RANGE, place);
    }
    response
}

fn empty(status: StatusCode) -> Response<Frames> {
    let mut response = Response::new(Frames::from(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precondition {
    Holds,
    NotModified,
    Failed,
}

/// RFC 9110, 13.2.2, in its order. A condition that cannot be read is one that was not made.
fn precondition(request: &HeaderMap, head: &Head) -> Precondition {
    let modified = head.get(&LAST_MODIFIED).and_then(date);
    let since = |name: HeaderName| request.get(name).and_then(date);
    if request.contains_key(IF_MATCH) {
        if !names(request, &IF_MATCH, head.get(&ETAG), is_same_to_the_byte) {
            return Precondition::Failed;
        }
    } else if let (Some(since), Some(modified)) = (since(IF_UNMODIFIED_SINCE), modified)
        && modified > since
    {
        return Precondition::Failed;
    }
    if request.contains_key(IF_NONE_MATCH) {
        if names(request, &IF_NONE_MATCH, head.get(&ETAG), same_tag) {
            return Precondition::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (since(IF_MODIFIED_SINCE), modified)
        && modified <= since
    {
        return Precondition::NotModified;
    }
    Precondition::Holds
}

/// Whether a list of entity tags names this one, or is `*`.
fn names(
    request: &HeaderMap,
    list: &HeaderName,
    tag: Option<&HeaderValue>,
    is_same: impl Fn(&HeaderValue, &HeaderValue) -> bool,
) -> bool {
    request.get_all(list).iter().any(|line| {
        line.as_bytes().trim_ascii() == b"*"
            || tag.is_some_and(|tag| tags(line.as_bytes()).any(|named| is_same(&named, tag)))
    })
}

/// The entity tags of a list. A comma may stand within one.
fn tags(mut list: &[u8]) -> impl Iterator<Item = HeaderValue> {
    std::iter::from_fn(move || {
        let start = list.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
        list = &list[start..];
        let quote = list.len() - opaque(list).len();
        let inside = list.get(quote..)?.strip_prefix(b"\"")?;
        let end = quote + 1 + inside.iter().position(|&byte| byte == b'"')? + 1;
        let (tag, rest) = list.split_at(end);
        list = rest;
        HeaderValue::from_bytes(tag).ok()
    })
}

/// The strong comparison: for what is put together from several answers.
fn is_same_to_the_byte(one: &HeaderValue, other: &HeaderValue) -> bool {
    one == other && !one.as_bytes().starts_with(b"W/")
}

/// Whether the value is the one of which the client has the rest: RFC 9110, 13.1.5. A date counts only where it is the very same, and not where
/// there is an entity tag to tell more by.
fn is_for_this(request: &HeaderMap, head: &Head) -> bool {
    let Some(validator) = request.get(IF_RANGE) else { return true };
    if validator.as_bytes().ends_with(b"\"") {
        return head.get(&ETAG).is_some_and(|tag| is_same_to_the_byte(validator, tag));
    }
    let is_weak = head.get(&ETAG).is_some_and(|tag| tag.as_bytes().starts_with(b"W/"));
    !is_weak
        && head.get(&LAST_MODIFIED).and_then(date).is_some_and(|modified| date(validator) == Some(modified))
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// What a `Range` asks for of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// All of it: nothing else was asked for, or nothing that is understood here. Several ranges are not, as RFC 9110, 14.2 allows.
    Whole,
    /// These bytes; at least one.
    Range(Range<usize>),
    /// Bytes that it does not have.
    None,
}

impl Part {
    fn of(asked: &[u8], len: usize) -> Self {
        let asked = asked.trim_ascii();
        let range = match asked.split_at_checked(6) {
            Some((unit, range)) if unit.eq_ignore_ascii_case(b"bytes=") => range.trim_ascii(),
            _ => return Self::Whole,
        };
        let Some(dash) = range.iter().position(|&byte| byte == b'-') else { return Self::Whole };
        let range = match (number(&range[..dash]), number(&range[dash + 1..])) {
            (Some(Bound::At(first)), Some(Bound::At(last))) if first <= last => {
                first..last.saturating_add(1).min(len)
            }
            (Some(Bound::At(first)), Some(Bound::Open)) => first..len,
            (Some(Bound::Open), Some(Bound::At(suffix))) => len.saturating_sub(suffix)..len,
            _ => return Self::Whole,
        };
        if range.is_empty() { Self::None } else { Self::Range(range) }
    }
}

/// One side of a range.
enum Bound {
    Open,
    At(usize),
}

/// `None` for what is no number. One that is too large for any value is the largest.
fn number(text: &[u8]) -> Option<Bound> {
    match std::str::from_utf8(text).ok()? {
        "" => Some(Bound::Open),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Bound::At(digits.parse().unwrap_or(usize::MAX)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        fields.iter().map(field).collect()
    }

    fn tagged() -> Head {
        Head::of(&headers(&[("etag", "\"a,b\""), ("last-modified", DATE)]))
    }

    #[test]
    fn a_range_is_what_there_is_of_it_and_what_is_not_understood_is_the_whole() {
        let all = usize::MAX.to_string() + "9";
        let large = format!("bytes=5-{all}");
        for (asked, expected) in [
            ("bytes=0-0", Part::Range(0..1)),
            ("bytes=0-9", Part::Range(0..10)),
            ("bytes=3-", Part::Range(3..10)),
            ("bytes=9-100", Part::Range(9..10)),
            (&large, Part::Range(5..10)),
            ("bytes=-3", Part::Range(7..10)),
            ("bytes=-30", Part::Range(0..10)),
            ("BYTES= 2-3 ", Part::Range(2..4)),
            ("bytes=10-", Part::None),
            ("bytes=10-20", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(Part::of(asked.as_bytes(), 10), expected, "{asked}");
        }
        assert_eq!(Part::of(b"bytes=0-0", 0), Part::None);
        assert_eq!(Part::of(b"bytes=-5", 0), Part::None);
    }

    #[test]
    fn a_client_that_has_the_value_is_told_so() {
        for (field, value, expected) in [
            ("if-none-match", "\"a,b\"", Precondition::NotModified),
            ("if-none-match", "W/\"a,b\"", Precondition::NotModified),
            ("if-none-match", "\"x\", W/\"y\" ,\"a,b\"", Precondition::NotModified),
            ("if-none-match", "*", Precondition::NotModified),
            ("if-none-match", "\"a\", \"b\"", Precondition::Holds),
            ("if-none-match", "a,b", Precondition::Holds),
            ("if-none-match", "\"a,b", Precondition::Holds),
            ("if-none-match", "W/", Precondition::Holds),
            ("if-modified-since", DATE, Precondition::NotModified),
            ("if-modified-since", LATER, Precondition::NotModified),
            ("if-modified-since", EARLIER, Precondition::Holds),
            ("if-modified-since", "yesterday", Precondition::Holds),
            ("if-match", "\"a,b\"", Precondition::Holds),
            ("if-match", "*", Precondition::Holds),
            ("if-match", "W/\"a,b\"", Precondition::Failed),
            ("if-match", "\"x\"", Precondition::Failed),
            ("if-unmodified-since", EARLIER, Precondition::Failed),
            ("if-unmodified-since", DATE, Precondition::Holds),
        ] {
            assert_eq!(precondition(&headers(&[(field, value)]), &tagged()), expected, "{field}: {value}");
        }
        let both = [("if-none-match", "\"x\""), ("if-modified-since", DATE)];
        assert_eq!(precondition(&headers(&both), &tagged()), Precondition::Holds, "a tag goes before a date");
        for field in ["if-none-match", "if-modified-since", "if-unmodified-since"] {
            let value = if field == "if-none-match" { "\"x\"" } else { DATE };
            let nothing_known = precondition(&headers(&[(field, value)]), &Head::default());
            assert_eq!(nothing_known, Precondition::Holds, "{field}");
        }
    }

    #[test]
    fn the_rest_of_a_value_is_sent_to_who_has_the_same_one() {
        let weak = Head::of(&headers(&[("etag", "W/\"a\""), ("last-modified", DATE)]));
        let dated = Head::of(&headers(&[("last-modified", DATE)]));
        for (validator, head, expected) in [
            ("\"a,b\"", &tagged(), true),
            ("\"x\"", &tagged(), false),
            ("W/\"a\"", &weak, false),
            (DATE, &dated, true),
            (LATER, &dated, false),
            (EARLIER, &dated, false),
            (DATE, &weak, false),
            ("nonsense", &dated, false),
            ("\"a\"", &Head::default(), false),
        ] {
            assert_eq!(is_for_this(&headers(&[("if-range", validator)]), head), expected, "{validator}");
        }
        assert!(is_for_this(&HeaderMap::new(), &Head::default()));
    }
}
