//! Trace context in headers: of HTTP, and of gRPC, whose metadata they are.

use http::{HeaderMap, HeaderValue};

use super::{TRACEPARENT, TRACESTATE, TraceContext};

impl TraceContext {
    /// Reads the context of a request. `None` where there is none, or none that can be believed: of several `traceparent` none is. Several `tracestate` are
    /// one list, as with all headers.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = parents.next()?.to_str().ok()?;
        if parents.next().is_some() {
            return None;
        }
        let states = headers.get_all(TRACESTATE).iter().map(HeaderValue::to_str);
        let states: Vec<_> = states.collect::<Result<_, _>>().unwrap_or_default();
        Self::parse(parent, Some(states.join(",").as_str()).filter(|state| !state.is_empty()))
    }

    /// Adds the context to what is sent, in place of another.
    pub fn set_headers(&self, headers: &mut HeaderMap) {
        // Both are printable ASCII, or they would not be what they are.
        if let Ok(parent) = HeaderValue::try_from(self.traceparent()) {
            headers.insert(TRACEPARENT, parent);
        }
        match self.tracestate().map(HeaderValue::try_from) {
            Some(Ok(state)) => headers.insert(TRACESTATE, state),
            Some(Err(_)) | None => headers.remove(TRACESTATE),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(pairs: &[(&'static str, &[u8])]) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value).expect("a value"));
        }
        TraceContext::from_headers(&headers)
    }

    #[test]
    fn what_is_set_is_what_is_read() {
        let context = TraceContext::parse(PARENT, Some("a=1,b=2")).expect("a context");
        let mut headers = HeaderMap::new();
        context.set_headers(&mut headers);
        assert_eq!((TraceContext::from_headers(&headers), headers.len()), (Some(context), 2));
        let bare = TraceContext::parse(PARENT, None).expect("a context");
        bare.set_headers(&mut headers);
        assert_eq!((TraceContext::from_headers(&headers), headers.len()), (Some(bare), 1));
    }

    #[test]
    fn of_several_parents_none_is_believed_and_several_states_are_one() {
        let parent = (TRACEPARENT, PARENT.as_bytes());
        assert_eq!(read(&[parent, parent]), None);
        let joined = read(&[parent, (TRACESTATE, b"a=1"), (TRACESTATE, b"b=2")]).expect("a context");
        assert_eq!(joined.tracestate(), Some("a=1,b=2"));
        assert_eq!(read(&[(TRACESTATE, b"a=1")]), None);
        assert_eq!(read(&[(TRACEPARENT, b"\xff")]), None);
        assert_eq!(read(&[parent, (TRACESTATE, b"a=\xff")]).expect("a context").tracestate(), None);
    }
}
