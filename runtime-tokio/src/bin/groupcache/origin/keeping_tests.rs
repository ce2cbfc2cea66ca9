//! What an HTTP origin says beside its values: what is kept of it, for how long, and what "not modified" makes of a value that has expired.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use groupcache_runtime::ByteView;
use http::HeaderName;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LAST_MODIFIED};

use super::web_tests::{Origin, Then};
use super::{Again, Answer, Fault, Keeping, OriginError};

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const MINUTE: Duration = Duration::from_secs(60);

/// An answer with these fields, each with its line end.
fn ok(fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n{fields}\r\nvalue").into()
}

fn not_modified(fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 304 Not Modified\r\nconnection: close\r\n{fields}\r\n").into()
}

async fn origin(answers: Vec<Vec<u8>>, most: Option<Duration>) -> Origin {
    let mut origin = Origin::of(answers, Then::Close).await;
    origin.web = origin.web.keeping(Keeping { most, revalidates: true });
    origin
}

async fn loaded(fields: &str, most: Option<Duration>) -> Answer {
    origin(vec![ok(fields)], most).await.web.load("key").await.expect("a value")
}

/// The time that is left of a whole number of seconds: some of it was spent on the way.
#[track_caller]
fn assert_about(ttl: Option<Duration>, seconds: u64) {
    let (ttl, whole) = (ttl.expect("a time to live"), Duration::from_secs(seconds));
    assert!(ttl <= whole && ttl + Duration::from_secs(20) > whole, "{ttl:?} of {whole:?}");
}

fn field<'a>(answer: &'a Answer, name: &HeaderName) -> Option<&'a str> {
    answer.head.get(name).and_then(|value| value.to_str().ok())
}

/// What has become of what `first` brought, by the answer to the next request; and what that one asked.
async fn again(first: &str, second: Vec<u8>, most: Option<Duration>) -> (Again, ByteView, String) {
    let origin = origin(vec![ok(first), second, ok("")], most).await;
    let answer = origin.web.load("key").await.expect("a value");
    let value = groupcache_core::Value::with_meta(&answer, &answer.head.to_meta()).expect("it fits");
    let stale = ByteView::from(value);
    let again = origin.web.revalidate("key", &stale).await.expect("an answer");
    let asked = origin.last.lock().unwrap().clone();
    (again, stale, asked)
}

#[tokio::test]
async fn what_belongs_to_a_value_is_kept_beside_it_and_nothing_else() {
    let fields = format!(
        "content-type: text/html\r\netag: \"1\"\r\nlast-modified: {DATE}\r\ncache-control: max-age=60\r\nset-cookie: a=b\r\n"
    );
    let answer = loaded(&fields, None).await;
    assert_eq!(
        (field(&answer, &CONTENT_TYPE), field(&answer, &ETAG), field(&answer, &LAST_MODIFIED)),
        (Some("text/html"), Some("\"1\""), Some(DATE))
    );
    assert_eq!((answer.head.fields().count(), answer.head.kept), (4, Some(MINUTE)));
    assert_about(answer.ttl, 60);
    assert!(!answer.fresh_only);
}

#[tokio::test]
async fn the_origin_says_how_long_within_what_the_node_says() {
    let bounded = loaded("cache-control: max-age=60\r\n", Some(Duration::from_secs(30))).await;
    assert_about(bounded.ttl, 30);
    assert_about(loaded("cache-control: max-age=60\r\n", Some(2 * MINUTE)).await.ttl, 60);
    let silent = loaded("", Some(MINUTE)).await;
    assert_eq!((silent.ttl, silent.head.kept), (None, Some(MINUTE)), "its group has the same");
    let private = loaded("cache-control: private\r\netag: \"1\"\r\n", Some(MINUTE)).await;
    assert_eq!(private.ttl, Some(Duration::ZERO));
    assert_eq!(field(&private, &CACHE_CONTROL), Some("private"), "who gets it is told");
    let no_cache = loaded("cache-control: no-cache\r\n", None).await;
    assert_eq!(no_cache.ttl, Some(Duration::ZERO), "there is nothing to ask its origin by");
    let no_cache = loaded("cache-control: no-cache\r\netag: \"1\"\r\n", None).await;
    assert!(
        no_cache.fresh_only && no_cache.ttl.is_some_and(|ttl| ttl > Duration::ZERO && ttl.as_millis() == 0)
    );
}

#[tokio::test]
async fn the_time_that_a_value_takes_to_arrive_is_taken_off() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\ncache-control: max-age=1\r\n\r\n";
    // Fifteen bytes, each after a third of the limit on stalls: one and a half seconds.
    let origin = Origin::of(vec![head.into()], Then::Drip(15)).await;
    let answer = origin.web.load("key").await.expect("a value");
    assert_eq!((answer.len(), answer.ttl), (15, Some(Duration::ZERO)));
}

#[tokio::test]
async fn a_value_that_is_not_modified_is_kept_as_long_as_the_origin_says_anew() {
    let first = format!("etag: \"1\"\r\nlast-modified: {DATE}\r\ncache-control: max-age=60\r\n");
    for second in ["cache-control: max-age=60\r\netag: \"1\"\r\n", "etag: W/\"1\"\r\n", ""] {
        // A tag that was strong and is weak now is something to say beside the value.
        let (again, stale, asked) = again(&first, not_modified(second), None).await;
        assert!(asked.contains("if-none-match: \"1\"\r\n"), "{asked}");
        assert!(asked.contains(&format!("if-modified-since: {DATE}\r\n")), "{asked}");
        match again {
            Again::Unchanged { ttl } => assert_about(ttl, 60),
            Again::Changed(answer) => {
                assert!(second.contains("W/"), "{answer:?}");
                assert_eq!(answer.bytes.as_ptr(), stale.as_bytes().as_ptr(), "nothing is copied here");
                assert_about(answer.ttl, 60);
            }
        }
    }
}

#[tokio::test]
async fn what_not_modified_says_anew_replaces_what_was_said_and_the_bytes_stay() {
    let first = "content-type: text/css\r\netag: \"1\"\r\ncache-control: max-age=60\r\n";
    let second = not_modified("content-type: text/plain\r\ncache-control: max-age=120, must-revalidate\r\n");
    let (again, _, _) = again(first, second, None).await;
    let Again::Changed(answer) = again else { panic!("{again:?}") };
    assert_eq!((&*answer, answer.fresh_only), (&b"value"[..], true));
    assert_eq!((field(&answer, &CONTENT_TYPE), field(&answer, &ETAG)), (Some("text/css"), Some("\"1\"")));
    assert_about(answer.ttl, 120);
    assert_eq!(answer.head.kept, Some(2 * MINUTE));
}

#[tokio::test]
async fn not_modified_without_a_word_on_time_repeats_the_time_before() {
    // The first says it by a date, in whole seconds.
    let expires = httpdate::fmt_http_date(SystemTime::now() + MINUTE + Duration::from_millis(999));
    let (dated, _, _) =
        again(&format!("etag: \"1\"\r\nexpires: {expires}\r\n"), not_modified(""), None).await;
    let Again::Unchanged { ttl } = dated else { panic!("{dated:?}") };
    assert_about(ttl, 61);
    let (silent, _, _) = again("etag: \"1\"\r\n", not_modified(""), None).await;
    assert!(matches!(silent, Again::Unchanged { ttl: None }), "{silent:?}");
    let (forbidden, _, _) = again("etag: \"1\"\r\n", not_modified("cache-control: no-store\r\n"), None).await;
    assert!(
        matches!(&forbidden, Again::Changed(answer) if answer.ttl == Some(Duration::ZERO)),
        "{forbidden:?}"
    );
}

#[tokio::test]
async fn not_modified_of_another_value_is_not_believed() {
    let (again, _, asked) = again("etag: \"1\"\r\n", not_modified("etag: \"2\"\r\n"), None).await;
    assert!(matches!(&again, Again::Changed(answer) if &**answer == b"value"), "{again:?}");
    assert!(!asked.contains("if-none-match"), "it is asked for without a condition: {asked}");
}

#[tokio::test]
async fn a_value_that_has_changed_or_has_no_validator_is_loaded() {
    let (changed, _, _) = again("etag: \"1\"\r\n", ok("etag: \"2\"\r\n"), None).await;
    assert!(
        matches!(&changed, Again::Changed(answer) if field(answer, &ETAG) == Some("\"2\"")),
        "{changed:?}"
    );
    let (loaded, _, asked) = again("content-type: text/html\r\n", ok(""), None).await;
    assert!(matches!(loaded, Again::Changed(_)) && !asked.contains("if-"), "{asked}");
}

#[tokio::test]
async fn an_origin_that_fails_to_say_whether_a_value_has_changed_has_failed() {
    let failing = b"HTTP/1.1 500 Oops\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec();
    let origin = origin(vec![ok("etag: \"1\"\r\n"), failing], None).await;
    let answer = origin.web.load("key").await.expect("a value");
    let value = groupcache_core::Value::with_meta(&answer, &answer.head.to_meta()).expect("it fits");
    let error = origin.web.revalidate("key", &value.into()).await.expect_err("no answer");
    assert!(matches!(&error, OriginError::Failed(fault) if matches!(**fault, Fault::Status(_))), "{error:?}");
    assert_eq!(origin.requests.load(Ordering::Relaxed), 2, "it is asked once");
}
