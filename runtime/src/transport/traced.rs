//! Trace context in metadata.

use tonic::metadata::{MetadataMap, MetadataValue};

use crate::trace::{TRACEPARENT, TRACESTATE, TraceContext};

/// Adds a context to what is sent.
pub(super) fn carry(metadata: &mut MetadataMap, context: Option<&TraceContext>) {
    let Some(context) = context else { return };
    let pairs =
        [(TRACEPARENT, Some(context.traceparent())), (TRACESTATE, context.tracestate().map(str::to_owned))];
    for (name, value) in pairs {
        // Both are printable ASCII, or they would not be what they are.
        if let Some(value) = value.and_then(|value| MetadataValue::try_from(value).ok()) {
            metadata.insert(name, value);
        }
    }
}

/// Reads the context of what was sent. Of several `traceparent` none is believed; several `tracestate` are one list, as with all headers.
pub(super) fn context_of(metadata: &MetadataMap) -> Option<TraceContext> {
    let mut parents = metadata.get_all(TRACEPARENT).iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        return None;
    }
    let states: Vec<_> =
        metadata.get_all(TRACESTATE).iter().filter_map(|state| state.to_str().ok()).collect();
    TraceContext::parse(parent, Some(states.join(",").as_str()).filter(|state| !state.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn metadata(pairs: &[(&'static str, &'static str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (name, value) in pairs {
            metadata.append(*name, MetadataValue::from_static(value));
        }
        metadata
    }

    #[test]
    fn what_is_carried_is_what_is_read() {
        let context = TraceContext::parse(PARENT, Some("a=1,b=2"));
        let mut sent = MetadataMap::new();
        carry(&mut sent, context.as_ref());
        assert_eq!((context_of(&sent), sent.len()), (context, 2));
        let mut nothing = MetadataMap::new();
        carry(&mut nothing, None);
        assert!(nothing.is_empty());
    }

    #[test]
    fn of_several_parents_none_is_believed_and_several_states_are_one() {
        assert_eq!(context_of(&metadata(&[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)])), None);
        let joined =
            context_of(&metadata(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1"), (TRACESTATE, "b=2")]));
        assert_eq!(
            joined.and_then(|context| context.tracestate().map(str::to_owned)).as_deref(),
            Some("a=1,b=2")
        );
        assert_eq!(context_of(&metadata(&[(TRACESTATE, "a=1")])), None);
        assert_eq!(context_of(&metadata(&[(TRACEPARENT, "nonsense")])), None);
    }
}
