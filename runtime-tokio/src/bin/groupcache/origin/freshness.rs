//! How long an HTTP answer may be kept: RFC 9111, as a cache that is shared.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, AGE, CACHE_CONTROL, DATE,
    EXPIRES, HeaderName, ORIGIN, VARY,
};

/// What an answer says of its keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freshness {
    /// Whether it may be kept at all.
    pub(super) storable: bool,
    /// For how long it is fresh from when it was made; `None` where it does not say.
    pub(super) lifetime: Option<Duration>,
    /// How old it was when it came.
    pub(super) age: Duration,
    /// Whether it must not be given out once that is over.
    pub(super) fresh_only: bool,
}

/// The time to live of what is out of date as soon as it is there, and worth keeping all the same, since its origin can say later that it has not changed.
const AT_ONCE: Duration = Duration::from_nanos(1);

/// More seconds than this are as good as never (RFC 9111, 1.2.2).
const MOST_SECONDS: u64 = 1 << 31;

/// What answers may vary by, and are kept all the same. A node asks for no encoding, which everybody can read; and the fields by which an answer to scripts of other
/// sites differs from others are none of those that are kept. By anything else two clients could be meant to get different values.
const HARMLESS: [HeaderName; 4] =
    [ACCEPT_ENCODING, ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD];

impl Freshness {
    /// What these fields say, of an answer that came at `now`, `delay` after it was asked for.
    pub(super) fn of(headers: &HeaderMap, now: SystemTime, delay: Duration) -> Self {
        let control = Control::of(headers);
        let lifetime = if control.no_cache { Some(Duration::ZERO) } else { lifetime(&control, headers, now) };
        Self {
            storable: !control.no_store && varies_harmlessly(headers),
            lifetime,
            age: age(headers, now, delay),
            fresh_only: control.fresh_only,
        }
    }

    /// How long the value may be kept from now on, for `most` where that is less. `None` leaves it to the group; zero is not at all. `comparable` says that its
    /// origin can be asked later whether it has changed.
    pub(super) fn ttl(&self, most: Option<Duration>, comparable: bool) -> Option<Duration> {
        if !self.storable {
            return Some(Duration::ZERO);
        }
        match self.lifetime?.saturating_sub(self.age) {
            Duration::ZERO => Some(if comparable { AT_ONCE } else { Duration::ZERO }),
            left => Some(most.map_or(left, |most| left.min(most))),
        }
    }
}

/// The directives that concern a shared cache.
#[derive(Debug, Default)]
struct Control {
    no_store: bool,
    no_cache: bool,
    fresh_only: bool,
    max_age: Option<Duration>,
    shared_max_age: Option<Duration>,
}

impl Control {
    fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            for directive in split_outside_quotes(line.as_bytes()) {
                control.take(directive);
            }
        }
        control
    }

    fn take(&mut self, directive: &[u8]) {
        let text = String::from_utf8_lossy(directive).to_ascii_lowercase();
        let (name, argument) = text.split_once('=').map_or((&*text, ""), |(name, argument)| (name, argument));
        match name.trim() {
            // With an argument these are about single fields. They count as if they were about all: what is not kept harms nobody.
            "no-store" | "private" => self.no_store = true,
            "no-cache" => (self.no_cache, self.fresh_only) = (true, true),
            "must-revalidate" | "proxy-revalidate" => self.fresh_only = true,
            "max-age" => least(&mut self.max_age, seconds(argument)),
            "s-maxage" => {
                least(&mut self.shared_max_age, seconds(argument));
                self.fresh_only = true;
            }
            _ => {}
        }
    }
}

/// Of several values of one directive the least counts.
fn least(known: &mut Option<Duration>, also: Duration) {
    *known = Some(known.map_or(also, |known| known.min(also)));
}

/// A number of seconds. What is none makes an answer out of date.
fn seconds(text: &str) -> Duration {
    let digits = text.trim().trim_matches('"');
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than fit are a large number.
    let number = if is_number { digits.parse().unwrap_or(MOST_SECONDS) } else { 0 };
    Duration::from_secs(number.min(MOST_SECONDS))
}

/// The parts between commas, those within quotes aside.
fn split_outside_quotes(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(move |&byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        byte == b',' && !quoted
    })
}

fn lifetime(control: &Control, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if let Some(said) = control.shared_max_age.or(control.max_age) {
        return Some(said);
    }
    let mut lines = headers.get_all(EXPIRES).iter();
    let expires = lines.next()?;
    // Anything but a date, as `0`, means that it has expired; so do two of them.
    let expires = expires.to_str().ok().filter(|_| lines.next().is_none()).and_then(date);
    let made = dated(headers).unwrap_or(now);
    Some(expires.and_then(|expires| expires.duration_since(made).ok()).unwrap_or_default())
}

/// RFC 9111, 4.2.3. Dates have whole seconds: the part of one that has passed since is no age.
fn age(headers: &HeaderMap, now: SystemTime, delay: Duration) -> Duration {
    let said = headers.get(AGE).and_then(|age| age.to_str().ok()).map_or(Duration::ZERO, seconds);
    let apparent = dated(headers).and_then(|made| now.duration_since(made).ok()).unwrap_or_default();
    (said + delay).max(Duration::from_secs(apparent.as_secs()))
}

fn dated(headers: &HeaderMap) -> Option<SystemTime> {
    headers.get(DATE).and_then(|value| value.to_str().ok()).and_then(date)
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

fn varies_harmlessly(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(VARY).iter();
    let mut names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    names.all(|name| {
        let name = name.trim_ascii();
        name.is_empty() || HARMLESS.iter().any(|known| name.eq_ignore_ascii_case(known.as_str().as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn of(fields: &[(&'static str, &'static str)]) -> Freshness {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Freshness::of(&fields.collect(), date(NOW).unwrap(), Duration::ZERO)
    }

    fn control(value: &'static str) -> Freshness {
        of(&[("cache-control", value)])
    }

    fn lifetime_of(value: &'static str) -> Option<u64> {
        control(value).lifetime.map(|lifetime| lifetime.as_secs())
    }

    #[test]
    fn an_answer_that_says_nothing_is_the_groups_to_keep() {
        let silent = of(&[]);
        assert!(silent.storable && !silent.fresh_only);
        assert_eq!((silent.ttl(None, true), silent.ttl(Some(Duration::from_secs(9)), true)), (None, None));
    }

    #[test]
    fn the_directive_for_shared_caches_goes_before_the_one_for_all_and_that_before_the_date() {
        for (value, expected) in [
            ("max-age=60", Some(60)),
            ("MAX-AGE=60", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("public, max-age=60 , immutable", Some(60)),
            ("max-age=60, s-maxage=5", Some(5)),
            ("s-maxage=500, max-age=60", Some(500)),
            ("max-age=60, max-age=30", Some(30)),
            ("max-age=soon", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=", Some(0)),
            ("max-age", Some(0)),
            ("max-age=99999999999999999999999", Some(1 << 31)),
            ("extension=\"max-age=1, no-store\", max-age=7", Some(7)),
            ("extension=\"\\\", no-store\", max-age=7", Some(7)),
            ("no-cache, max-age=60", Some(0)),
            ("public", None),
            ("", None),
        ] {
            assert_eq!(lifetime_of(value), expected, "{value}");
            assert!(control(value).storable, "{value}");
        }
        let both = of(&[("cache-control", "max-age=60"), ("expires", NOW)]);
        assert_eq!(both.lifetime, Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_date_of_expiry_counts_from_when_the_answer_was_made_and_what_is_none_has_expired() {
        let expires = |value| of(&[("date", NOW), ("expires", value)]).lifetime.map(|time| time.as_secs());
        assert_eq!(expires("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(expires("Sunday, 06-Nov-94 08:50:37 GMT"), Some(60));
        assert_eq!(expires("Sun Nov  6 08:50:37 1994"), Some(60));
        for past in ["0", "-1", "", "tomorrow", "Sun, 06 Nov 1994 08:48:37 GMT"] {
            assert_eq!(expires(past), Some(0), "{past}");
        }
        let skewed =
            of(&[("date", "Sun, 06 Nov 1994 09:49:37 GMT"), ("expires", "Sun, 06 Nov 1994 09:50:37 GMT")]);
        assert_eq!(skewed.ttl(None, false), Some(Duration::from_secs(60)), "an origin whose clock is ahead");
    }

    #[test]
    fn the_time_that_an_answer_was_under_way_or_in_other_caches_is_taken_off() {
        let ttl = |fields: &[_], delay| {
            let fields = fields
                .iter()
                .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            Freshness::of(&fields.collect(), date(NOW).unwrap(), delay)
                .ttl(None, false)
                .map(|ttl| ttl.as_secs())
        };
        let zero = Duration::ZERO;
        assert_eq!(ttl(&[("cache-control", "max-age=60"), ("age", "50")], zero), Some(10));
        assert_eq!(ttl(&[("cache-control", "max-age=60"), ("age", "50")], Duration::from_secs(3)), Some(7));
        assert_eq!(ttl(&[("cache-control", "max-age=60"), ("age", "61")], zero), Some(0));
        let made = ("date", "Sun, 06 Nov 1994 08:49:07 GMT");
        assert_eq!(ttl(&[("cache-control", "max-age=60"), made], zero), Some(30));
    }

    #[test]
    fn what_is_private_or_not_to_be_stored_or_varies_is_delivered_and_not_kept() {
        for value in [
            "no-store",
            "No-Store, max-age=60",
            "private",
            "private=\"x, y\", max-age=60",
            "max-age=60,private",
        ] {
            let freshness = control(value);
            assert!(!freshness.storable, "{value}");
            assert_eq!(freshness.ttl(None, true), Some(Duration::ZERO), "{value}");
        }
        for (value, storable) in [
            ("*", false),
            ("cookie", false),
            ("accept-encoding, accept-language", false),
            ("Accept-Encoding", true),
            ("Origin, Access-Control-Request-Headers,access-control-request-method", true),
            ("", true),
        ] {
            assert_eq!(of(&[("vary", value)]).storable, storable, "{value}");
        }
        assert!(!of(&[("vary", "accept-encoding"), ("vary", "user-agent")]).storable);
    }

    #[test]
    fn what_must_be_revalidated_is_kept_for_that_where_its_origin_can_be_asked() {
        for (value, fresh_only) in [
            ("no-cache", true),
            ("max-age=0", false),
            ("max-age=0, must-revalidate", true),
            ("no-cache=\"set-cookie\"", true),
        ] {
            let freshness = control(value);
            assert_eq!(freshness.fresh_only, fresh_only, "{value}");
            assert_eq!(freshness.ttl(Some(Duration::from_secs(9)), true), Some(AT_ONCE), "{value}");
            assert_eq!(freshness.ttl(None, false), Some(Duration::ZERO), "{value}");
        }
        for value in ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate", "s-maxage=60"] {
            assert!(control(value).fresh_only, "{value}");
        }
    }

    #[test]
    fn a_group_bounds_what_its_origin_says_and_never_extends_it() {
        let minute = control("max-age=60");
        assert_eq!(minute.ttl(Some(Duration::from_secs(9)), false), Some(Duration::from_secs(9)));
        assert_eq!(minute.ttl(Some(Duration::from_secs(99)), false), Some(Duration::from_secs(60)));
    }
}
