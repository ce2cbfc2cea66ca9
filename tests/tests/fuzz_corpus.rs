//! The fuzz targets' bodies on stable: over the corpus that fuzzing has left, and over bytes from a fixed seed.

use std::fs;
use std::path::Path;

use groupcache_tests::fuzz::{BODIES, Body, seeded};
use groupcache_tests::repository;

#[test]
fn the_corpus_of_every_target_passes() {
    for Body { name, run, .. } in BODIES {
        let corpus = repository().join("fuzz/corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&corpus)
            .unwrap_or_else(|error| panic!("{} has no inputs: {error}", corpus.display()))
            .map(|entry| entry.expect("a file").path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{} is empty", corpus.display());
        for file in files {
            eprintln!("{}", file.display()); // Shown when it panics.
            run(&fs::read(&file).expect("a file"));
        }
    }
}

#[test]
fn bytes_from_a_seed_pass() {
    for Body { name, run, seeds } in BODIES {
        for seed in 1..=*seeds {
            eprintln!("{name}, seed {seed}"); // Shown when it panics.
            run(&seeded(seed));
        }
    }
}

#[test]
fn every_body_has_its_target_and_every_target_its_body() {
    let manifest = fs::read_to_string(repository().join("fuzz/Cargo.toml")).expect("fuzz/Cargo.toml");
    let mut targets: Vec<String> = fs::read_dir(repository().join("fuzz/fuzz_targets"))
        .expect("targets")
        .filter_map(|entry| Path::new(&entry.ok()?.file_name()).file_stem()?.to_str().map(str::to_owned))
        .collect();
    targets.sort();
    let mut bodies: Vec<&str> = BODIES.iter().map(|body| body.name).collect();
    bodies.sort_unstable();
    assert_eq!(targets, bodies);
    for name in bodies {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no [[bin]]");
    }
}
