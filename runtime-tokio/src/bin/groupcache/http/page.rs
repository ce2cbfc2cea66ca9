//! The page at `/`, for people: one file, which asks for nothing but this node's `/-/live`.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::body::Frames;

const PAGE: &str = include_str!("page.html");

const NO_SNIFFING: HeaderName = HeaderName::from_static("x-content-type-options");
const NO_REFERRER: HeaderName = HeaderName::from_static("referrer-policy");

/// What a browser may do with the page: run the one script and the one style that are in it, and ask this node. It can make no markup out of text (trusted
/// types), be framed by nobody, and send nothing anywhere else.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        digest_of("script"),
        digest_of("style"),
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// What names an element's text in a policy.
fn digest_of(element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let text =
        PAGE.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).map_or("", |(text, _)| text);
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

pub(super) fn for_people() -> Response<Frames> {
    let mut response = Response::new(Frames::from(Bytes::from_static(PAGE.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(NO_SNIFFING, HeaderValue::from_static("nosniff"));
    headers.insert(NO_REFERRER, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_makes_no_markup_of_text() {
        for (forbidden, why) in [
            ("//cdn", "it works without the internet"),
            ("<script src", "one file"),
            ("innerHTML", "text is text"),
            ("outerHTML", "text is text"),
            ("insertAdjacentHTML", "text is text"),
            ("document.write", "text is text"),
            (" style=\"", "the policy forbids it"),
            (" onclick", "the policy forbids it"),
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}: {why}");
        }
        let urls: Vec<_> = PAGE.match_indices("http").map(|(at, _)| &PAGE[at..at + 26]).collect();
        assert_eq!(urls, ["http://www.w3.org/2000/svg"], "a name, and no address");
    }

    #[test]
    fn the_policy_names_the_script_and_the_style_that_are_there() {
        let policy = POLICY.to_str().expect("text");
        let empty = STANDARD.encode(Sha256::digest(""));
        assert!(!policy.contains(&empty) && policy.matches("sha256-").count() == 2, "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for element in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{element}>")).count(), 1, "{element}");
        }
    }
}
