//! Requests of peers: answered at once with what is known, and later with the rest.

use super::*;

type Said = Result<Vec<u8>, FailureKind>;

/// A reply that is to be sent.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reply {
    to: RequestId,
    /// By index.
    said: Vec<(u32, Said)>,
    last: bool,
}

impl Bench {
    fn ask(&mut self, texts: &[&str]) -> Result<RequestId, LoadError> {
        let deadline = self.now.saturating_add(SECOND);
        let keys: Vec<_> = texts.iter().map(|text| RequestKey::new(Some(key(text)), deadline)).collect();
        self.node.handle_request(self.now, &keys, &mut self.out)
    }

    fn replies(&mut self) -> Vec<Reply> {
        let said = |answer: Answer| answer.map(|got| got.value.to_vec()).map_err(|failure| failure.kind);
        let replies = self.out.drain_intents().filter_map(|intent| match intent {
            Intent::Reply { request, results, last } => {
                let results = results.into_iter().map(|(index, answer)| (index, said(answer)));
                Some(Reply { to: request, said: results.collect(), last })
            }
            _ => None,
        });
        replies.collect()
    }

    /// Loads that are asked of the origin, in order of their keys. Replies stay where they are.
    fn loads(&mut self) -> Vec<(FlightId, Attempt)> {
        let (mut loads, mut others) = (Vec::new(), Vec::new());
        for intent in self.out.drain_intents() {
            match intent {
                Intent::Load { flight, attempt, key, .. } => loads.push((key, (flight, attempt))),
                other => others.push(other),
            }
        }
        self.out.intents = others;
        loads.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        loads.into_iter().map(|(_, load)| load).collect()
    }
}

fn reply(to: RequestId, said: &[(u32, Said)], last: bool) -> Reply {
    Reply { to, said: said.to_vec(), last }
}

fn said(text: &str) -> Said {
    Ok(text.as_bytes().to_vec())
}

#[test]
fn what_is_known_is_answered_at_once_and_the_rest_as_it_is_loaded() {
    let mut bench = Bench::new(|_| {});
    bench.fill("held");
    let request = bench.ask(&["a", "held", "b"]).unwrap();
    let loads = bench.loads();
    assert_eq!(bench.replies(), [reply(request, &[(1, said("held"))], false)]);
    bench.loaded(loads[1], value("of b"));
    assert_eq!(bench.replies(), [reply(request, &[(2, said("of b"))], false)]);
    bench.loaded(loads[0], Outcome::Failed(crate::Failure::new(FailureKind::NotFound)));
    assert_eq!(bench.replies(), [reply(request, &[(0, Err(FailureKind::NotFound))], true)]);
    assert_eq!(bench.node.stats().served, 3);
    assert!(bench.served().is_empty(), "no caller of this node's has asked");
}

#[test]
fn a_request_that_can_be_answered_in_full_is_over_at_once() {
    let mut bench = Bench::new(|_| {});
    bench.fill("held");
    let request = bench.ask(&["held", ""]).unwrap();
    let results = [(0, said("held")), (1, Err(FailureKind::InvalidKey))];
    assert_eq!(bench.replies(), [reply(request, &results, true)]);
    let unknown = RequestKey::new(None, bench.now.saturating_add(SECOND));
    let request = bench.node.handle_request(bench.now, &[unknown], &mut bench.out).unwrap();
    assert_eq!(bench.replies(), [reply(request, &[(0, Err(FailureKind::NoSuchGroup))], true)]);
    let request = bench.ask(&[]).unwrap();
    assert_eq!(
        bench.replies(),
        [reply(request, &[], true)],
        "a request for nothing is answered: it is a probe"
    );
}

#[test]
fn one_load_answers_all_requests_and_each_hears_of_its_own_keys() {
    let mut bench = Bench::new(|_| {});
    let requests: Vec<_> = (0..3).map(|_| bench.ask(&["a", "b"]).unwrap()).collect();
    let loads = bench.loads();
    assert_eq!((loads.len(), bench.replies().len()), (2, 3));
    bench.wait("a", 7);
    bench.loaded(loads[0], value("of a"));
    let mut replies = bench.replies();
    replies.sort();
    let expected: Vec<_> =
        requests.iter().map(|&request| reply(request, &[(0, said("of a"))], false)).collect();
    assert_eq!((replies, bench.served()), (expected, [(7, said("of a"))].into()));
    bench.loaded(loads[1], value("of b"));
    let last: Vec<_> = bench.replies().into_iter().map(|reply| reply.last).collect();
    assert_eq!(last, [true; 3]);
}

#[test]
fn a_request_that_the_peer_gives_up_takes_its_loads_along() {
    let mut bench = Bench::new(|config| config.shard.on_abandoned = OnAbandoned::Abort);
    bench.wait("b", 1);
    bench.loads();
    let request = bench.ask(&["a", "b", "c"]).unwrap();
    let loads = bench.loads();
    bench.replies();
    bench.loaded(loads[1], value("of c"));
    assert_eq!(bench.replies().len(), 1);
    let give_up = |bench: &mut Bench| bench.node.handle_request_cancelled(bench.now, request, &mut bench.out);
    assert_eq!(give_up(&mut bench), Disposition::Applied);
    let aborted: Vec<_> = bench
        .out
        .drain_intents()
        .map(|intent| match intent {
            Intent::AbortLoad { flight } => flight,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(aborted, [loads[0].0], "`b` is waited for by a caller, and `c` has been answered");
    assert_eq!(give_up(&mut bench), Disposition::Stale);
    assert_eq!((bench.node.usage().waiters, bench.node.stats().cancelled), (1, 2));
}

#[test]
fn one_request_too_many_is_refused_and_one_that_is_over_makes_room_under_another_name() {
    let mut bench = Bench::new(|config| config.max_requests = NonZeroU32::new(2).unwrap());
    let first = bench.ask(&["a"]).unwrap();
    let second = bench.ask(&["b"]).unwrap();
    assert_eq!(bench.ask(&["c"]), Err(LoadError::RequestsFull { max: 2 }));
    let loads = bench.loads();
    bench.replies();
    bench.loaded(loads[0], value("of a"));
    assert_eq!(bench.replies(), [reply(first, &[(0, said("of a"))], true)]);
    let third = bench.ask(&["c"]).unwrap();
    assert!(third != first && third != second);
    let over = bench.node.handle_request_cancelled(bench.now, first, &mut bench.out);
    assert_eq!(over, Disposition::Stale, "that it was over does not end who has its place");
    bench.replies();
    bench.loaded(loads[1], value("of b"));
    assert_eq!(bench.replies(), [reply(second, &[(0, said("of b"))], true)]);
}

#[test]
fn a_peers_request_is_never_forwarded() {
    let mut bench = Bench::among(2);
    let theirs = bench.keys_of(1, 1).remove(0);
    bench.ask(&[&theirs]).unwrap();
    assert_eq!(bench.loads().len(), 1);
}
