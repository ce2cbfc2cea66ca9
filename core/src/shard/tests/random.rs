//! A long random run against a multiset of waiters.

use super::*;

/// What a random run keeps of its own: who waits, and what is asked for.
#[derive(Default)]
struct Model {
    tickets: Vec<(Ticket, u32)>,
    done: std::collections::HashSet<u32>,
    given_back: std::collections::HashSet<u32>,
    loads: Vec<(FlightId, Attempt, Vec<u8>)>,
    fetches: Vec<(FlightId, Attempt, Vec<u8>)>,
    accepted: u32,
    version: u64,
}

impl Model {
    fn collect(&mut self, bench: &mut Bench) {
        for intent in bench.out.drain_intents() {
            match intent {
                Intent::Load { flight, attempt, key, .. } => {
                    self.loads.push((flight, attempt, key.as_bytes().to_vec()));
                }
                Intent::AbortLoad { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        for call in bench.out.drain_calls() {
            if let Call::Fetch { item, .. } = call {
                self.fetches.push((item.flight, item.attempt, item.key.as_bytes().to_vec()));
            }
        }
        for completion in bench.out.drain_completions() {
            assert!(self.done.insert(completion.waiter), "waiter {} was served twice", completion.waiter);
            assert!(!self.given_back.contains(&completion.waiter));
        }
        bench.out.free_evicted();
    }
}

fn outcome(rng: &mut SplitMix64, key: &[u8], version: u64) -> Outcome {
    match rng.below(8) {
        0 => Outcome::Unreachable(None),
        1 => failed(FailureKind::NotFound),
        2 => failed(FailureKind::OriginFailed),
        3 => failed(FailureKind::Deadline),
        _ => {
            let mut bytes = key.to_vec();
            bytes.extend_from_slice(format!("#{version}").as_bytes());
            bytes.resize(bytes.len() + rng.below(300) as usize, b'.');
            let ttl = (rng.below(2) == 0).then(|| Duration::from_millis(rng.below(3000)));
            Outcome::Value { value: Value::from(bytes), ttl }
        }
    }
}

fn random_step(bench: &mut Bench, model: &mut Model, rng: &mut SplitMix64, waiter: u32) {
    let text = format!("k{}", rng.below(12));
    match rng.below(10) {
        0..=3 => {
            let route = if rng.below(3) == 0 { Route::LocalOnly } else { Route::Cluster };
            let deadline = bench.now.saturating_add(Duration::from_millis(rng.below(4000)));
            if let Ok(Load::Wait(ticket)) = bench.request_until(&text, waiter, route, deadline) {
                model.accepted += 1;
                model.tickets.push((ticket, waiter));
            }
        }
        4 if !model.tickets.is_empty() => {
            let (ticket, waiter) = model.tickets[rng.below(model.tickets.len() as u64) as usize];
            if let Some(given) = bench.shard.cancel(bench.now, ticket, &mut bench.out) {
                assert_eq!(given, waiter);
                assert!(model.given_back.insert(waiter) && !model.done.contains(&waiter));
            }
        }
        5 | 6 if !model.loads.is_empty() => {
            let index = rng.below(model.loads.len() as u64) as usize;
            // Sometimes an answer comes twice.
            let (flight, attempt, key) =
                if rng.below(4) == 0 { model.loads[index].clone() } else { model.loads.swap_remove(index) };
            model.version += 1;
            let outcome = outcome(rng, &key, model.version);
            bench.loaded((flight, attempt), outcome);
        }
        7 if !model.fetches.is_empty() => {
            let index = rng.below(model.fetches.len() as u64) as usize;
            let (flight, attempt, key) = model.fetches.swap_remove(index);
            model.version += 1;
            let outcome = outcome(rng, &key, model.version);
            bench.fetched(flight, attempt, outcome);
        }
        8 => {
            bench.pass(Duration::from_millis(rng.below(500)));
            let _ = bench.shard.handle_timeout(bench.now, &mut bench.out);
        }
        _ => match rng.below(6) {
            0 => drop(bench.shard.flush(bench.now, G)),
            1 => bench.shard.handle_ring(bench.now, ring(1 + rng.below(4) as u32)),
            _ => drop(bench.shard.invalidate(bench.now, &key(&text), &mut bench.out)),
        },
    }
}

#[test]
fn every_accepted_waiter_is_served_once_or_given_back_whatever_happens() {
    for seed in 0..60 {
        let mut rng = SplitMix64::new(seed);
        let small = NonZeroU32::new(1 + rng.below(6) as u32).unwrap();
        let mut bench = Bench::new(3, |config| {
            config.budget = 2048 + 4096 * (seed % 3);
            config.max_flights = small;
            config.max_waiters = small.saturating_add(3);
            config.work_per_call = NonZeroU32::new(2).unwrap();
            if seed % 2 == 0 {
                config.on_abandoned = OnAbandoned::Abort;
                config.eviction = Eviction::B2Adaptive;
            }
        });
        let mut model = Model::default();
        for waiter in 0..4_000 {
            random_step(&mut bench, &mut model, &mut rng, waiter);
            bench.shard.check_invariants().unwrap();
            model.collect(&mut bench);
            for n in 0..12 {
                let text = format!("k{n}");
                if let Some(Ok(held)) = bench.shard.get(bench.now, &key(&text)) {
                    assert!(held.value.starts_with(format!("{text}#").as_bytes()), "a value of another key");
                    assert!(bench.now < held.expires);
                }
            }
        }
        bench.pass(120 * SECOND);
        while bench.shard.handle_timeout(bench.now, &mut bench.out) == Wake::Now {}
        model.collect(&mut bench);
        assert_eq!(model.accepted as usize, model.done.len() + model.given_back.len(), "seed {seed}");
        let usage = bench.shard.usage();
        assert_eq!((usage.flights, usage.waiters), (0, 0));
        assert_eq!(bench.shard.next_wake(), Wake::Idle);
    }
}
