//! Random runs against the model of a registry.

use super::*;

fn draw_faults(world: &mut World, lose_data: bool) -> Faults {
    let mut chance = |most| if world.chance(512) { world.below(most) } else { 0 };
    Faults {
        lose_request: chance(400),
        lose_answer: chance(400),
        double: chance(512),
        slow: chance(512),
        lose_batch: chance(200),
        outage: chance(300),
        compact: chance(300),
        lose_data: if lose_data { chance(100) } else { 0 },
    }
}

fn meddle(world: &mut World) {
    let port = 7001 + world.below(4);
    let addr = alloc::format!("127.0.0.1:{port}");
    match world.below(3) {
        0 => world.etcd.delete(&addr),
        _ => {
            let weight = 1 + u32::try_from(world.below(3)).unwrap();
            world.etcd.put(MemberRecord::new(addr, weight), None);
        }
    }
    if world.chance(world.faults.outage) {
        let up = world.chance(512);
        world.set_up(up);
    }
    if world.chance(world.faults.compact) {
        world.compact();
    }
    if world.chance(world.faults.lose_data) {
        world.lose_data();
    }
}

/// Faults, then health, then a stop.
fn story(seed: u64, lose_data: bool) -> World {
    let start = if seed % 2 == 0 { Instant::ZERO } else { Instant::from_nanos(u64::MAX / 2) };
    let mut world = World::new(seed, MembershipConfig::new(ME), start);
    world.start();
    world.faults = draw_faults(&mut world, lose_data);
    for _ in 0..60 {
        meddle(&mut world);
        let pause = Duration::from_millis(world.below(4000));
        world.run(pause);
    }
    world
}

#[test]
fn when_faults_end_the_view_is_the_registrys_and_the_node_is_in_it() {
    for seed in 0..400 {
        let mut world = story(seed, seed % 4 == 0);
        world.faults = Faults::default();
        world.set_up(true);
        world.run(140 * SECOND);
        world.assert_converged(&alloc::format!("seed {seed}"));
        world.stop();
        world.run(SECOND / 10);
        assert!(world.node.is_stopped(), "seed {seed}");
        assert!(!world.etcd.records.contains_key(ME), "seed {seed}");
    }
}

#[test]
fn a_stop_amid_faults_comes_to_an_end_and_leaves_no_record() {
    for seed in 1000..1300 {
        let mut world = story(seed, false);
        world.stop();
        world.run(20 * SECOND);
        assert!(world.node.is_stopped(), "seed {seed}");
        world.set_up(true);
        world.run(15 * SECOND);
        assert!(!world.etcd.records.contains_key(ME), "seed {seed}");
    }
}

#[test]
fn one_seed_tells_one_story() {
    let trace = |seed| {
        let world = story(seed, true);
        (world.node.stats(), world.now, world.etcd.revision, world.node.epoch())
    };
    assert_eq!(trace(77), trace(77));
    assert_ne!(trace(77), trace(78));
}
