//! The propagator that is built in.

use std::num::{NonZeroU64, NonZeroU128};
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use tracing::Span;

use super::{Propagator, TraceContext};

/// Makes ids itself, and takes the embedding service's context from [`TraceContext::scope`]. A trace that begins here is sampled.
///
/// Its ids are unlikely to come twice, and no secret.
#[derive(Debug)]
pub struct TraceIds {
    hasher: RandomState,
    made: AtomicU64,
}

impl Default for TraceIds {
    fn default() -> Self {
        Self::new()
    }
}

impl TraceIds {
    /// Ids that begin anywhere.
    #[must_use]
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), made: AtomicU64::new(0) }
    }

    fn next(&self) -> u64 {
        self.hasher.hash_one(self.made.fetch_add(1, Ordering::Relaxed))
    }
}

impl Propagator for TraceIds {
    fn current(&self) -> Option<TraceContext> {
        TraceContext::current()
    }

    fn begin(&self, _: &Span, parent: Option<&TraceContext>) -> Option<TraceContext> {
        let span = NonZeroU64::new(self.next()).unwrap_or(NonZeroU64::MIN);
        if let Some(parent) = parent {
            return Some(parent.child(span));
        }
        let trace = u128::from(self.next()) << 64 | u128::from(self.next());
        Some(TraceContext::new(NonZeroU128::new(trace).unwrap_or(NonZeroU128::MIN), span, true))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_a_child_stays_in_its_trace() {
        let ids = TraceIds::new();
        let begin = |parent: Option<&TraceContext>| ids.begin(&Span::none(), parent).expect("it makes one");
        let traces: HashSet<_> = (0..100).map(|_| begin(None)).collect();
        assert_eq!(traces.iter().map(TraceContext::trace_id).collect::<HashSet<_>>().len(), 100);
        assert_eq!(traces.iter().map(TraceContext::span_id).collect::<HashSet<_>>().len(), 100);
        let parent = begin(None).with_tracestate("a=1");
        let child = begin(Some(&parent));
        assert_eq!((child.trace_id(), child.tracestate()), (parent.trace_id(), Some("a=1")));
        assert_ne!(child.span_id(), parent.span_id());
        assert_ne!(TraceIds::new().next(), TraceIds::new().next(), "another process begins elsewhere");
    }
}
