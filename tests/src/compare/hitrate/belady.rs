//! Belady's optimum: what is asked for last, or never again, goes first.

use std::collections::BinaryHeap;

use super::trace::Trace;
use super::{Hits, Tally};

/// What a cache comes to that knows the future. An object that will be needed later than all that it would displace is passed by.
///
/// Exact for objects of one size. With sizes the best is not to be had in any reasonable time; this goes by time alone, which is close to it.
pub(super) fn belady(trace: &Trace, capacity: u64) -> Hits {
    let next = next_uses(trace);
    let mut tally = Tally::default();
    // By object: when it is needed next, if it is held.
    let mut held: Vec<Option<usize>> = vec![None; trace.objects()];
    // Who is needed last comes first. Places that have been overtaken are left in, and known by `held`.
    let mut last: BinaryHeap<(usize, u32, u32)> = BinaryHeap::new();
    let mut used = 0_u64;
    for (at, request) in trace.requests.iter().enumerate() {
        let (id, size) = (request.id, request.size);
        let was_held = held[id as usize].take().is_some();
        tally.count(size, was_held);
        used += if was_held { 0 } else { u64::from(size) };
        (held[id as usize], _) = (Some(next[at]), last.push((next[at], id, size)));
        while used > capacity {
            let Some((needed, id, size)) = last.pop() else { break };
            if held[id as usize] == Some(needed) {
                held[id as usize] = None;
                used -= u64::from(size);
            }
        }
    }
    tally.hits()
}

/// By request: the number of the next one for the same object, or one past the last where there is none.
fn next_uses(trace: &Trace) -> Vec<usize> {
    let end = trace.requests.len();
    let mut seen = vec![end; trace.objects()];
    let mut next = vec![end; end];
    for (at, request) in trace.requests.iter().enumerate().rev() {
        next[at] = std::mem::replace(&mut seen[request.id as usize], at);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_optimum_is_the_one_that_is_found_by_hand() {
        // Two places. 1 and 2 go in, 3 is passed by for 1 and 2, which hit; then 3 goes in for good.
        let trace = Trace::new("by hand", [1, 2, 3, 1, 2, 3, 3].map(|id| (id, 1)));
        assert_eq!(belady(&trace, 2).objects, 100.0 * 3.0 / 7.0);
        assert_eq!(belady(&trace, 3).objects, 100.0 * 4.0 / 7.0);
        assert_eq!(belady(&trace, 0).objects, 0.0);
    }

    #[test]
    fn no_other_choice_of_what_to_keep_hits_more_often() {
        // Every cache of two places on every trace of seven requests for three objects, by trying all choices.
        fn most(ids: &[u32], held: &[u32]) -> u32 {
            let Some((id, rest)) = ids.split_first() else { return 0 };
            if held.contains(id) {
                return 1 + most(rest, held);
            }
            let mut choices = vec![held.to_vec()];
            if held.len() < 2 {
                choices.push([held, &[*id]].concat());
            }
            for out in held {
                let mut kept: Vec<u32> = held.iter().copied().filter(|kept| kept != out).collect();
                kept.push(*id);
                choices.push(kept);
            }
            choices.iter().map(|held| most(rest, held)).max().unwrap_or(0)
        }
        for code in 0..3_u32.pow(7) {
            let ids: Vec<u32> = (0..7).map(|place| code / 3_u32.pow(place) % 3).collect();
            let trace = Trace::new("all", ids.iter().map(|&id| (id, 1)));
            let hits = belady(&trace, 2).objects / 100.0 * 7.0;
            assert_eq!(hits.round() as u32, most(&ids, &[]), "{ids:?}");
        }
    }
}
