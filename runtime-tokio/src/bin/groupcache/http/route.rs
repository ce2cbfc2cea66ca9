//! What a path asks for.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/`: the page for people.
    Page,
    /// `/-/healthz`: the process lives.
    Health,
    /// `/-/readyz`: the node has joined, and is not stopping.
    Ready,
    /// `/-/stats`: counters.
    Stats,
    /// `/-/ring`: members and shares.
    Ring,
    /// `/metrics`, where Prometheus looks by itself, and `/-/metrics`.
    Metrics,
    /// `/-/live`: the node at work, which is what the page shows.
    Live,
    /// `/-/why/{group}/{key...}`: what is known of a key.
    Why {
        /// As in [`Key`](Self::Key).
        group: Cow<'a, str>,
        /// As in [`Key`](Self::Key).
        key: Cow<'a, str>,
    },
    /// `/{group}/{key...}`.
    Key {
        /// The group's name. Whether there is such a group is not said here.
        group: Cow<'a, str>,
        /// The rest of the path. It may be empty, which no key is.
        key: Cow<'a, str>,
    },
}

/// Why a path asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadPath {
    /// It names no group, or no page of the node.
    Unknown,
    /// It is not UTF-8 once decoded.
    NotUtf8,
    /// There is a query, which is no part of any key.
    Query,
}

impl<'a> Route<'a> {
    /// Reads a request's path as it was sent. Nothing is normalised, since a key may be anything: `..` and empty segments are part of it. It is decoded
    /// once: `%252e` is the key `%2e`.
    pub(super) fn parse(path: &'a str, query: Option<&str>) -> Result<Self, BadPath> {
        let path = path.strip_prefix('/').ok_or(BadPath::Unknown)?;
        // No group is without a key: the path is free.
        if path == "metrics" {
            return Ok(Self::Metrics);
        }
        let (group, key) = path.split_once('/').unwrap_or((path, ""));
        match (group, key) {
            ("-", "healthz") => Ok(Self::Health),
            ("-", "readyz") => Ok(Self::Ready),
            ("-", "stats") => Ok(Self::Stats),
            ("-", "ring") => Ok(Self::Ring),
            ("-", "metrics") => Ok(Self::Metrics),
            ("-", "live") => Ok(Self::Live),
            ("-", page) => {
                let about = page.strip_prefix("why/").ok_or(BadPath::Unknown)?;
                let (group, key) = about.split_once('/').unwrap_or((about, ""));
                whole_key(group, key, query).map(|(group, key)| Self::Why { group, key })
            }
            ("", "") if path.is_empty() => Ok(Self::Page),
            ("", _) => Err(BadPath::Unknown),
            _ => whole_key(group, key, query).map(|(group, key)| Self::Key { group, key }),
        }
    }
}

fn whole_key<'a>(
    group: &'a str,
    key: &'a str,
    query: Option<&str>,
) -> Result<(Cow<'a, str>, Cow<'a, str>), BadPath> {
    // A key with a question mark that nobody encoded would be cut short without a word.
    if query.is_some() {
        return Err(BadPath::Query);
    }
    Ok((decode(group)?, decode(key)?))
}

fn decode(text: &str) -> Result<Cow<'_, str>, BadPath> {
    percent_decode_str(text).decode_utf8().map_err(|_| BadPath::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> (String, String) {
        match Route::parse(path, None) {
            Ok(Route::Key { group, key }) => (group.into_owned(), key.into_owned()),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn a_key_is_the_rest_of_the_path_decoded_once_and_otherwise_as_sent() {
        for (path, expected) in [
            ("/g/a", "a"),
            ("/g/a/b%20c/d", "a/b c/d"),
            ("/g/../x", "../x"),
            ("/g/%2e%2e/x", "../x"),
            ("/g/%252e", "%2e"),
            ("/g/a%2Fb", "a/b"),
            ("/g//etc/passwd", "/etc/passwd"),
            ("/g/a/", "a/"),
            ("/g/%D0%BA", "к"),
            ("/g/%00", "\0"),
            ("/g/100%", "100%"),
            ("/g/-/x", "-/x"),
            ("/g/", ""),
            ("/g", ""),
        ] {
            assert_eq!(key(path), ("g".to_owned(), expected.to_owned()), "{path}");
        }
    }

    #[test]
    fn the_nodes_own_pages_are_below_the_hyphen() {
        assert_eq!(Route::parse("/-/healthz", Some("x")), Ok(Route::Health));
        assert_eq!(Route::parse("/-/ring", None), Ok(Route::Ring));
        assert_eq!(Route::parse("/-/metrics", None), Ok(Route::Metrics));
        assert_eq!(Route::parse("/", Some("x")), Ok(Route::Page));
        assert_eq!(Route::parse("/-/live", None), Ok(Route::Live));
        let why = Route::Why { group: "g".into(), key: "a/b c".into() };
        assert_eq!(Route::parse("/-/why/g/a/b%20c", None), Ok(why));
        assert_eq!(Route::parse("/-/why/g/a", Some("b")), Err(BadPath::Query));
        assert_eq!(Route::parse("/-/metrics", None), Ok(Route::Metrics));
        for unknown in ["/-/nothing", "/-/", "/-", "/-/why", "//", "//x", "*", ""] {
            assert_eq!(Route::parse(unknown, None), Err(BadPath::Unknown), "{unknown}");
        }
    }

    #[test]
    fn metrics_are_where_prometheus_looks_and_a_group_of_that_name_has_its_keys() {
        assert_eq!(Route::parse("/metrics", Some("x=1")), Ok(Route::Metrics));
        assert!(matches!(Route::parse("/metrics/k", None), Ok(Route::Key { key, .. }) if key == "k"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(Route::parse("/g/%ff", None), Err(BadPath::NotUtf8));
        assert_eq!(Route::parse("/g/a", Some("")), Err(BadPath::Query));
    }
}
