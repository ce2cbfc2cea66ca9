//! What stands beside a value: the header fields that belong to it, and how long it was to be kept. An origin writes it into the value's metadata, and
//! the HTTP side of any node reads it from there.

use std::time::Duration;

use http::HeaderMap;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, LAST_MODIFIED, VARY,
};

/// The fields that are kept and served. A field's place is its tag in the metadata, so that new ones go to the end.
static FIELDS: [HeaderName; COUNT] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_DISPOSITION,
    ETAG,
    LAST_MODIFIED,
    CACHE_CONTROL,
    VARY,
];

const COUNT: usize = 8;

/// Fields of the bytes themselves: an answer without bytes says nothing about them.
static OF_THE_BYTES: [HeaderName; 2] = [CONTENT_TYPE, CONTENT_ENCODING];

/// The longest field that is kept; a longer one counts as one that is not there. All of them at this length fit beside a value.
const MAX_FIELD: usize = 480;

/// The tags of two numbers of seconds, of eight bytes each.
const KEPT: u8 = 0x40;
const AGE: u8 = 0x41;

/// What an origin says beside the bytes of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    fields: [Option<HeaderValue>; COUNT],
    /// For how long the value was to be kept when it came.
    pub(crate) kept: Option<Duration>,
    /// How old it was then.
    pub(crate) age: Duration,
}

impl Head {
    /// What an answer with these fields says of its body.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let fields = std::array::from_fn(|place| joined(headers, &FIELDS[place]));
        Self { fields, ..Self::default() }
    }

    /// The same value's, after an answer without a body that has confirmed it. What that does not say is as it was.
    pub(crate) fn confirmed_by(&self, headers: &HeaderMap) -> Self {
        let mut confirmed = self.clone();
        for (name, field) in FIELDS.iter().zip(&mut confirmed.fields) {
            if let Some(new) = joined(headers, name).filter(|_| !OF_THE_BYTES.contains(name)) {
                *field = Some(new);
            }
        }
        confirmed
    }

    pub(crate) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let place = FIELDS.iter().position(|field| field == name)?;
        self.fields[place].as_ref()
    }

    pub(crate) fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        if let Some(place) = FIELDS.iter().position(|field| field == name) {
            self.fields[place] = Some(value).filter(|value| value.len() <= MAX_FIELD);
        }
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        FIELDS.iter().zip(&self.fields).filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }

    /// How old a value is that lives for `left` from now on. A copy may not live for as long as its owner's value, and counts as older: never as younger.
    pub(crate) fn age_with(&self, left: Option<Duration>) -> Option<Duration> {
        Some(self.age + self.kept?.saturating_sub(left?))
    }

    /// As metadata: for each that is there its tag, its length in two bytes, and its bytes.
    pub(crate) fn to_meta(&self) -> Vec<u8> {
        let mut meta = Vec::new();
        let mut push = |tag: u8, bytes: &[u8]| {
            // No field is longer than MAX_FIELD.
            meta.push(tag);
            meta.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            meta.extend_from_slice(bytes);
        };
        for (tag, field) in (0..).zip(&self.fields) {
            if let Some(field) = field {
                push(tag, field.as_bytes());
            }
        }
        if let Some(kept) = self.kept {
            push(KEPT, &kept.as_secs().to_be_bytes());
        }
        if self.age.as_secs() > 0 {
            push(AGE, &self.age.as_secs().to_be_bytes());
        }
        meta
    }

    /// Reads metadata. It may come from another node, of another version or of none: what means nothing here is passed over.
    pub(crate) fn from_meta(mut meta: &[u8]) -> Self {
        let mut head = Self::default();
        while let Some((&[tag, high, low], rest)) = meta.split_first_chunk() {
            let Some((bytes, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))
            else {
                break;
            };
            meta = rest;
            let seconds = || bytes.try_into().ok().map(u64::from_be_bytes).map(Duration::from_secs);
            match tag {
                KEPT => head.kept = seconds(),
                AGE => head.age = seconds().unwrap_or_default(),
                _ => {
                    if let Some(field) = head.fields.get_mut(usize::from(tag)) {
                        *field = HeaderValue::from_bytes(bytes).ok();
                    }
                }
            }
        }
        head
    }
}

/// Whether two entity tags name values that are as good as the same: the weak comparison of RFC 9110, 8.8.3.2.
pub(crate) fn same_tag(one: &HeaderValue, other: &HeaderValue) -> bool {
    opaque(one.as_bytes()) == opaque(other.as_bytes())
}

/// An entity tag without what says that it is a weak one.
pub(crate) fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The field `name`; its lines as one where there are several of a field that is a list, the first of any other.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let is_list = [CACHE_CONTROL, VARY, CONTENT_ENCODING, CONTENT_LANGUAGE].contains(name);
    let rest: Vec<_> = if is_list { lines.map(HeaderValue::as_bytes).collect() } else { Vec::new() };
    let value = match rest[..] {
        [] => first.clone(),
        _ => {
            let all = std::iter::once(first.as_bytes()).chain(rest).collect::<Vec<_>>().join(&b", "[..]);
            HeaderValue::from_bytes(&all).ok()?
        }
    };
    Some(value).filter(|value| value.len() <= MAX_FIELD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_is_said_beside_a_value_is_read_back_and_fits_at_its_longest() {
        let mut head =
            Head { kept: Some(Duration::from_secs(60)), age: Duration::from_secs(3), ..Head::default() };
        assert_eq!(Head::from_meta(&head.to_meta()), head);
        for name in &FIELDS {
            head.set(name, HeaderValue::from_bytes(&[b'x'; MAX_FIELD]).unwrap());
        }
        let meta = head.to_meta();
        assert!(meta.len() <= groupcache_core::MAX_META, "{}", meta.len());
        assert_eq!(Head::from_meta(&meta), head);
        head.set(&ETAG, HeaderValue::from_bytes(&[b'x'; MAX_FIELD + 1]).unwrap());
        assert_eq!(head.get(&ETAG), None, "a field that is too long is left out");
        assert_eq!(Head::default().to_meta(), b"", "nothing takes no place");
    }

    #[test]
    fn metadata_of_others_is_read_as_far_as_it_means_something() {
        let mut head = Head::default();
        head.set(&CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let whole = head.to_meta();
        let unknown = [&[0x7f, 0, 2, 1, 2][..], &whole].concat();
        assert_eq!(Head::from_meta(&unknown), head, "a field of a later version is passed over");
        for cut in 0..whole.len() {
            assert_eq!(Head::from_meta(&whole[..cut]), Head::default(), "{cut}");
        }
        let split = [&[0, 0, 4][..], b"a\r\nb", &[KEPT, 0, 1, 7]].concat();
        assert_eq!(Head::from_meta(&split), Head::default(), "no line of another answer gets in");
        assert_eq!(Head::from_meta(&[0xff; 4096]), Head::default());
    }

    #[test]
    fn fields_in_several_lines_are_one_and_those_that_may_stand_once_are_the_first() {
        let head = Head::of(&headers(&[
            (CACHE_CONTROL, "public"),
            (CACHE_CONTROL, "max-age=1"),
            (ETAG, "\"a\""),
            (ETAG, "\"b\""),
            (http::header::SET_COOKIE, "secret=1"),
        ]));
        let fields: Vec<_> = head.fields().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("etag", &b"\"a\""[..]), ("cache-control", b"public, max-age=1")]);
    }

    #[test]
    fn an_answer_that_confirms_a_value_says_anew_what_it_says_but_not_of_the_bytes() {
        let old =
            Head::of(&headers(&[(CONTENT_TYPE, "text/css"), (ETAG, "\"a\""), (CACHE_CONTROL, "max-age=1")]));
        let new = old.confirmed_by(&headers(&[(CONTENT_TYPE, "text/html"), (CACHE_CONTROL, "max-age=2")]));
        assert_eq!(new.get(&CONTENT_TYPE), old.get(&CONTENT_TYPE));
        assert_eq!(
            (new.get(&ETAG), new.get(&CACHE_CONTROL)),
            (old.get(&ETAG), Some(&HeaderValue::from_static("max-age=2")))
        );
    }

    #[test]
    fn a_value_is_as_old_as_the_time_that_it_has_lost_and_never_younger() {
        let seconds = Duration::from_secs;
        let head = Head { kept: Some(seconds(60)), age: seconds(5), ..Head::default() };
        for (left, age) in [
            (Some(60), Some(5)),
            (Some(50), Some(15)),
            (Some(0), Some(65)),
            (Some(90), Some(5)),
            (None, None),
        ] {
            assert_eq!(head.age_with(left.map(seconds)), age.map(seconds), "{left:?}");
        }
        assert_eq!(Head::default().age_with(Some(seconds(1))), None);
    }
}
