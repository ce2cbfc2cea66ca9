//! A short share of the cluster simulator's runs, and whether the simulator itself is to be believed: `--bin simulate` runs the rest.

use std::fs;

use groupcache_tests::repository;
use groupcache_tests::sim::{Job, Recording, minimize, replay};

const STEPS: u64 = 2_000;

fn job(seed: u64) -> Job {
    Job { seed, steps: STEPS, nodes: None }
}

#[test]
fn no_promise_is_broken_in_sixty_seeds() {
    for seed in 1..=60 {
        let (outcome, _) = job(seed).run(false);
        assert_eq!(outcome.violation, None, "seed {seed}, {STEPS} steps");
    }
}

#[test]
fn seeds_that_have_failed_pass() {
    let seeds = fs::read_to_string(repository().join("tests/data/seeds.txt")).expect("the seeds");
    let mut count = 0;
    for line in seeds.lines().filter(|line| !line.starts_with('#')) {
        let number =
            |word: Option<&str>| word.and_then(|word| word.parse().ok()).expect("a seed and its steps");
        let mut words = line.split(' ');
        let job = Job { seed: number(words.next()), steps: number(words.next()), nodes: None };
        assert_eq!(job.run(false).0.violation, None, "{line}");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn the_same_seed_makes_the_same_run_and_another_makes_another() {
    for seed in 1..=10 {
        let ((first, recorded), (second, _)) = (job(seed).run(false), job(seed).run(false));
        assert_eq!(
            (first.hash, first.steps, first.time),
            (second.hash, second.steps, second.time),
            "seed {seed}"
        );
        let played = replay(&job(seed).plan(), &recorded, false);
        assert_eq!(played.hash, first.hash, "the recording of seed {seed} makes another run");
        assert_ne!(first.hash, job(seed + 100).run(false).0.hash);
    }
}

#[test]
fn a_failure_is_shortened_to_what_makes_it_fail() {
    let has_crash = |recording: &Recording| recording.lines().any(|line| line.starts_with("Crash"));
    let recordings = (1..=20).map(|seed| job(seed).run(false).1);
    let recorded = recordings.into_iter().find(has_crash).expect("one of twenty runs has a crash in it");
    assert!(recorded.len() > 20, "{}", recorded.len());
    // What "fails" here is a run with a crash in it: one operation is enough.
    let short = minimize(recorded, 2_000, has_crash);
    assert_eq!(short.recording.len(), 1, "{:?}", short.recording);
}
