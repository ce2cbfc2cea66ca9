//! Tracing across members: a get that is no hit, what it asks of a peer, and what it loads there are one trace. Off unless
//! [`ServerBuilder::tracing`](crate::ServerBuilder::tracing) turns it on; a hit knows nothing of it either way.
//!
//! # Spans
//!
//! Spans of the crate `tracing`, at level `INFO`, target `groupcache`. Each has the field `trace_id`, so that log lines of two nodes about one get say so.
//!
//! | span | from | to | fields |
//! |---|---|---|---|
//! | `get` | a look-up that found nothing, or something expired | its answer | `group`, `key`, `flight` (`started` or `joined`) |
//! | `get_many` | the same, of many keys | the last answer | `group`, `keys` |
//! | `fetch` | a batch leaves for a peer | it is over | `peer`, `keys` |
//! | `serve` | a peer asked for a key that is not there | its answer | `group`, `key`, `flight` |
//! | `load` | the origin is asked | it has answered | `group`, `key` |
//!
//! `key` is cut to 64 bytes. A load belongs to the trace of whoever started its flight; who joined it waits in a trace of their own.
//!
//! # Across the wire
//!
//! A request for one key (`groupcachepb.GroupCache/Get`) carries [W3C trace context](https://www.w3.org/TR/trace-context/) in its metadata, `traceparent`
//! and `tracestate`. A batch carries keys of many callers, each in a trace of its own: so it has a `fetch` span for each of these traces, and each key
//! carries the context of its own one, as a field of the key. What a peer sends is read strictly; what is none is as if nothing had been sent.
//!
//! # Who makes ids
//!
//! A [`Propagator`]. [`TraceIds`] makes them itself: enough to find all log lines of a get. For OpenTelemetry write one of a few lines, over
//! `tracing-opentelemetry`, which this crate does not depend on:
//!
//! ```ignore
//! impl Propagator for OpenTelemetry {
//!     fn current(&self) -> Option<TraceContext> {
//!         context_of(&Span::current())
//!     }
//!
//!     fn begin(&self, span: &Span, parent: Option<&TraceContext>) -> Option<TraceContext> {
//!         if let Some(parent) = parent {
//!             let (trace, id) = (parent.trace_id().get().into(), parent.span_id().get().into());
//!             let flags = if parent.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
//!             let remote = SpanContext::new(trace, id, flags, true, TraceState::default());
//!             let _is_set = span.set_parent(Context::new().with_remote_span_context(remote));
//!         }
//!         context_of(span)
//!     }
//! }
//!
//! fn context_of(span: &Span) -> Option<TraceContext> {
//!     let context = span.context();
//!     let it = context.span().span_context().clone();
//!     let trace = NonZeroU128::new(u128::from_be_bytes(it.trace_id().to_bytes()))?;
//!     let id = NonZeroU64::new(u64::from_be_bytes(it.span_id().to_bytes()))?;
//!     Some(TraceContext::new(trace, id, it.is_sampled()))
//! }
//! ```

mod context;
mod headers;
mod ids;
mod tracer;

use std::fmt;

use tracing::Span;

pub use self::context::{Scoped, TRACEPARENT, TRACESTATE, TraceContext};
pub use self::ids::TraceIds;
pub(crate) use self::tracer::{Traced, Tracer};

/// Who knows what trace code runs in, and makes ids for spans. Called for what is no hit.
pub trait Propagator: fmt::Debug + Send + Sync + 'static {
    /// The context that the calling code runs in: that of a request which the embedding service answers, say. `None` where it runs in none, and a trace
    /// begins.
    fn current(&self) -> Option<TraceContext>;

    /// `span` has begun, below `parent` where there is one, which may be of another process. Answers the span's own context, which what follows from it has
    /// for a parent; `None` leaves it out of any trace.
    fn begin(&self, span: &Span, parent: Option<&TraceContext>) -> Option<TraceContext>;
}
