fn main() {
    let args: Vec<String> = std::env::args().collect();
    let body = groupcache_tests::fuzz::BODIES.iter().find(|b| b.name == args[1]).unwrap();
    let (from, to): (u64, u64) = (args[2].parse().unwrap(), args[3].parse().unwrap());
    let start = std::time::Instant::now();
    let mut bad = 0;
    for seed in from..to {
        let input = groupcache_tests::fuzz::seeded(seed);
        if std::panic::catch_unwind(|| (body.run)(&input)).is_err() {
            eprintln!("seed {seed}");
            bad += 1;
            if bad > 5 {
                break;
            }
        }
    }
    println!("{} {:?} bad {bad}", args[1], start.elapsed());
}
