//! What broke in the Go system and cannot here, shown at the core's surface. runtime/PARITY.md is the list.

#![allow(clippy::unwrap_used)] // What is absent in a harness is a failed test.

use std::time::Duration;

use groupcache_core::{
    Attempt, Effects, Failure, FailureKind, FlightId, GroupConfig, GroupId, HashedKey, Instant, Intent, Load,
    LoadRequest, Node, NodeConfig, Outcome, Value,
};

/// A node alone, at one moment, and what it asks for.
struct Alone {
    node: Node<u32>,
    out: Effects<u32>,
    now: Instant,
}

const G: GroupId = GroupId::new(0);

impl Alone {
    fn new() -> Self {
        let now = Instant::from_nanos(0);
        let mut node = Node::new(NodeConfig::new("127.0.0.1:6324"), 42, now).unwrap();
        node.add_group(G, &GroupConfig::default()).unwrap();
        Self { node, out: Effects::new(), now }
    }

    /// Asks for `k`: what is there, or nothing where the caller waits.
    fn ask(&mut self, waiter: u32) -> Option<Vec<u8>> {
        let key = HashedKey::new(G, b"k", 7);
        let request = LoadRequest::new(key, waiter, self.now.saturating_add(Duration::from_secs(1)));
        match self.node.load(self.now, request, &mut self.out).unwrap() {
            Load::Ready { answer, .. } => Some(answer.unwrap().value.as_bytes().to_vec()),
            Load::Wait(_) => None,
        }
    }

    /// The loads that were asked of the origin since the last time.
    fn loads(&mut self) -> Vec<(FlightId, Attempt)> {
        let load = |intent| match intent {
            Intent::Load { flight, attempt, .. } => Some((flight, attempt)),
            _ => None,
        };
        self.out.drain_intents().filter_map(load).collect()
    }

    fn loaded(&mut self, (flight, attempt): (FlightId, Attempt), outcome: Outcome) {
        let _ = self.node.handle_loaded(self.now, flight, attempt, outcome, &mut self.out);
    }

    /// Who was served since the last time, and with what.
    fn served(&mut self) -> Vec<(u32, Result<Vec<u8>, FailureKind>)> {
        let done = self.out.drain_completions();
        let mut served: Vec<_> = done
            .map(|one| {
                let value = one.result.map(|it| it.value.as_bytes().to_vec());
                (one.waiter, value.map_err(|failure| failure.kind))
            })
            .collect();
        served.sort_unstable_by_key(|one| one.0);
        served
    }
}

/// S2: between a caller's look and its load the value may have come.
#[test]
fn a_load_that_is_asked_for_after_the_value_has_come_finds_it_and_asks_nobody() {
    let mut alone = Alone::new();
    let missed = alone.node.get(alone.now, &HashedKey::new(G, b"k", 7));
    assert!(missed.is_none(), "two callers have looked, and found nothing");
    assert_eq!(alone.ask(1), None);
    let load = alone.loads()[0];
    alone.loaded(load, Outcome::Value { value: Value::from(&b"v"[..]), ttl: None });
    assert_eq!(
        alone.ask(2),
        Some(b"v".to_vec()),
        "the second comes with its load when the first's has ended"
    );
    assert!(alone.loads().is_empty());
    assert_eq!(alone.served(), [(1, Ok(b"v".to_vec()))]);
}

/// S4: an answer that is not kept is for those who waited for it, and for nobody after them.
#[test]
fn whoever_comes_after_a_flight_has_ended_starts_another() {
    let mut alone = Alone::new();
    assert_eq!((alone.ask(1), alone.ask(2)), (None, None));
    let first = alone.loads();
    assert_eq!(first.len(), 1);
    alone.loaded(first[0], Outcome::Failed(Failure::new(FailureKind::OriginFailed)));
    assert_eq!(alone.ask(3), None);
    let second = alone.loads();
    assert_eq!(second.len(), 1, "not the failure that the others got, but a load of its own");
    let failed = Err(FailureKind::OriginFailed);
    assert_eq!(alone.served(), [(1, failed.clone()), (2, failed)]);
    // The first load's answer, once more: nobody's any longer.
    alone.loaded(first[0], Outcome::Value { value: Value::from(&b"late"[..]), ttl: None });
    assert!(alone.served().is_empty());
    alone.loaded(second[0], Outcome::Value { value: Value::from(&b"v"[..]), ttl: None });
    assert_eq!(alone.served(), [(3, Ok(b"v".to_vec()))]);
}
