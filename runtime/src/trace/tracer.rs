//! Spans of a node's own work, and which trace each flight belongs to.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use groupcache_core::{FetchItem, FlightId};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use super::{Propagator, TraceContext};
use crate::engine::{Fx, lock};
use crate::sync::Mutex;

/// A node's tracing. Without a propagator it is off, and every call answers at once.
#[derive(Debug, Default)]
pub(crate) struct Tracer {
    propagator: Option<Arc<dyn Propagator>>,
    /// The contexts of flights whose starter still waits.
    flights: Mutex<HashMap<FlightId, TraceContext>>,
}

/// Work with a span, and its place in a trace.
#[derive(Debug)]
pub(crate) struct Traced {
    span: Span,
    context: Option<TraceContext>,
    /// The flights that it has started.
    flights: Vec<FlightId>,
}

/// What a span shows of a key, at most, in bytes.
const SHOWN: usize = 64;

impl Tracer {
    pub(crate) fn new(propagator: Option<Arc<dyn Propagator>>) -> Self {
        Self { propagator, flights: Mutex::default() }
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.propagator.is_some()
    }

    /// A caller looks up what is not there.
    pub(crate) fn get(&self, group: &str, key: &[u8]) -> Option<Box<Traced>> {
        let propagator = self.propagator.as_deref()?;
        let current = propagator.current();
        let key = shown(key);
        let span =
            info_span!(target: "groupcache", "get", trace_id = Empty, group, key = &*key, flight = Empty);
        Some(Box::new(begin(propagator, span, current.as_ref())))
    }

    /// A caller looks up several keys, not all of which are there.
    pub(crate) fn get_many(&self, group: &str, keys: usize) -> Option<Traced> {
        let propagator = self.propagator.as_deref()?;
        let current = propagator.current();
        let span = info_span!(target: "groupcache", "get_many", trace_id = Empty, group, keys);
        Some(begin(propagator, span, current.as_ref()))
    }

    /// A peer looks up what is not there, in a trace where it said so.
    pub(crate) fn serve(
        &self,
        group: &str,
        key: &[u8],
        parent: Option<&TraceContext>,
    ) -> Option<Box<Traced>> {
        let propagator = self.propagator.as_deref()?;
        let key = shown(key);
        let span = info_span!(target: "groupcache", parent: None, "serve", trace_id = Empty, group, key = &*key, flight = Empty);
        Some(Box::new(begin(propagator, span, parent)))
    }

    /// Notes what a look-up has started: before that is carried out.
    pub(crate) fn note_started(&self, traced: &mut Traced, fx: &Fx) {
        let before = traced.flights.len();
        traced.flights.extend(fx.flights_asked());
        let started = &traced.flights[before..];
        traced.span.record("flight", if started.is_empty() { "joined" } else { "started" });
        if let Some(context) = &traced.context {
            let started = started.iter().map(|&flight| (flight, context.clone()));
            lock(&self.flights).extend(started);
        }
    }

    /// A look-up has its answer, or its caller has left.
    pub(crate) fn over(&self, traced: &Traced, outcome: &str) {
        if !traced.flights.is_empty() {
            let mut flights = lock(&self.flights);
            traced.flights.iter().for_each(|flight| drop(flights.remove(flight)));
        }
        tracing::debug!(target: "groupcache", parent: &traced.span, outcome, "a look-up is over");
    }

    /// The origin is asked for a flight, where that is in a trace.
    pub(crate) fn load(&self, flight: FlightId, group: &str, key: &[u8]) -> Option<Traced> {
        let (propagator, parent) = self.parent(flight)?;
        let key = shown(key);
        let span =
            info_span!(target: "groupcache", parent: None, "load", trace_id = Empty, group, key = &*key);
        Some(begin(propagator, span, Some(&parent)))
    }

    /// A batch leaves for a peer: a span for each trace of which it carries keys.
    pub(crate) fn fetch(&self, peer: &str, items: &[FetchItem]) -> Fetches {
        let mut fetches = Fetches::default();
        if !self.is_on() {
            return fetches;
        }
        let mut by_parent = HashMap::new();
        fetches.of_items.resize(items.len(), None);
        for (item, of) in items.iter().zip(&mut fetches.of_items) {
            let Some((propagator, parent)) = self.parent(item.flight) else { continue };
            *of = Some(*by_parent.entry(parent).or_insert_with_key(|parent| {
                let span = info_span!(target: "groupcache", parent: None, "fetch", trace_id = Empty, peer, keys = items.len());
                fetches.spans.push(begin(propagator, span, Some(parent)));
                fetches.spans.len() - 1
            }));
        }
        fetches
    }

    fn parent(&self, flight: FlightId) -> Option<(&dyn Propagator, TraceContext)> {
        let propagator = self.propagator.as_deref()?;
        let parent = lock(&self.flights).get(&flight).cloned()?;
        Some((propagator, parent))
    }
}

impl Traced {
    /// Runs `work` in the span, and in its context.
    pub(crate) async fn run<F: Future>(self, work: F) -> F::Output {
        let work = work.instrument(self.span);
        match self.context {
            Some(context) => context.scope(work).await,
            None => work.await,
        }
    }
}

/// The spans of a batch. Dropped when it is over.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    spans: Vec<Traced>,
    of_items: Vec<Option<usize>>,
}

impl Fetches {
    /// What the key at `index` carries.
    pub(crate) fn context(&self, index: usize) -> Option<&TraceContext> {
        let span = (*self.of_items.get(index)?)?;
        self.spans[span].context.as_ref()
    }
}

fn begin(propagator: &dyn Propagator, span: Span, parent: Option<&TraceContext>) -> Traced {
    let context = propagator.begin(&span, parent);
    if let Some(context) = &context {
        span.record("trace_id", tracing::field::display(format_args!("{:032x}", context.trace_id())));
    }
    Traced { span, context, flights: Vec::new() }
}

/// A key as a span shows it: the text that it is, as much of it as there is place for.
fn shown(key: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&key[..cut(key)])
}

/// Where a key is cut: not amid a character.
fn cut(key: &[u8]) -> usize {
    let is_inside = |&at: &usize| key.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let most = key.len().min(SHOWN);
    (most.saturating_sub(3)..=most).rev().find(|at| !is_inside(at)).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_cut_between_characters() {
        assert_eq!(shown(b"short"), "short");
        assert_eq!(shown("é".repeat(40).as_bytes()), "é".repeat(32));
        assert_eq!(shown(format!("x{}", "é".repeat(40)).as_bytes()), format!("x{}", "é".repeat(31)));
        assert_eq!(shown(&[0xff; 70]).chars().count(), SHOWN);
        assert_eq!(shown(b""), "");
    }
}
