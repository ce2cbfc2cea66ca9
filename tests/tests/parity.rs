//! runtime/PARITY.md names tests: each of them exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use groupcache_tests::repository;

fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !matches!(name, "target" | ".git" | ".venv") {
            tests_below(&path, found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let after = text.split("fn ").skip(1);
            found.extend(
                after.filter_map(|rest| rest.split_once(['(', '<']).map(|(name, _)| name.to_owned())),
            );
        }
    }
}

#[test]
fn every_test_that_the_parity_table_names_exists() {
    let root = repository();
    let mut tests = BTreeSet::new();
    tests_below(root, &mut tests);
    let table = fs::read_to_string(root.join("runtime/PARITY.md")).expect("the table");
    let shown_by =
        table.lines().filter(|line| line.starts_with('|')).filter_map(|line| line.rsplit('|').nth(1));
    let named: Vec<&str> = shown_by
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|name| name.contains('_'))
        .collect();
    assert!(named.len() > 60, "{} tests are named", named.len());
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
    for defect in 1..=50 {
        let mark = format!("S{defect}");
        let rows = table.lines().filter(|line| line.starts_with("| S"));
        let named = rows.filter(|row| row.split([' ', ',', '|']).any(|word| word == mark)).count();
        assert_eq!(named, 1, "{mark} has {named} rows");
    }
}
