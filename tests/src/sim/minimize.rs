//! Makes a failing recording short: first its end is cut off, then what is in between, chunk by chunk, for as long as it still fails.

use super::run::Recording;

/// The shortest recording that was found to fail, and how many were tried.
#[derive(Clone, Debug)]
pub struct Minimized {
    /// It fails.
    pub recording: Recording,
    /// How often it was run.
    pub tries: u32,
}

/// Shortens `recording`, which fails. At most `budget` tries.
pub fn minimize(recording: Recording, budget: u32, mut fails: impl FnMut(&Recording) -> bool) -> Minimized {
    let mut best = recording;
    let mut tries = 0;
    let mut fails = |candidate: &Recording, tries: &mut u32| {
        *tries += 1;
        *tries <= budget && fails(candidate)
    };
    // Failing is not always kept by a longer prefix, so what bisection ends at is only as good as its last success.
    let (mut passes, mut end) = (0, best.len());
    while passes + 1 < end {
        let middle = passes + (end - passes) / 2;
        let candidate = Recording(best.0[..middle].to_vec());
        if fails(&candidate, &mut tries) {
            (best, end) = (candidate, middle);
        } else {
            passes = middle;
        }
    }
    let mut chunk = best.len().div_ceil(2).max(1);
    while tries < budget {
        let mut from = 0;
        let mut shortened = false;
        while from < best.len() && tries < budget {
            let to = (from + chunk).min(best.len());
            let candidate = Recording([&best.0[..from], &best.0[to..]].concat());
            if fails(&candidate, &mut tries) {
                best = candidate;
                shortened = true;
            } else {
                from = to;
            }
        }
        if chunk == 1 && !shortened {
            break;
        }
        chunk = chunk.div_ceil(2);
    }
    Minimized { recording: best, tries: tries.min(budget) }
}
