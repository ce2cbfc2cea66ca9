//! The cluster simulator.
use groupcache_tests::sim::Job;

#[test]
fn seeds_pass() {
    for seed in 1..=60 {
        let job = Job { seed, steps: 2_000, nodes: None };
        let (outcome, _) = job.run(false);
        let plan = job.plan();
        println!(
            "seed {seed} nodes {} polite {} steps {} time {}s: {:?}",
            plan.nodes,
            plan.is_polite,
            outcome.steps,
            outcome.time / 1_000_000_000,
            outcome.violation
        );
    }
}
