//! Documents hold. runtime/PARITY.md says what shows each of its claims: a test that exists, or a reason why the thing cannot occur. runtime/METRICS.md is
//! the table in runtime/src/metrics/table.rs, for people: `UPDATE_METRICS=1 cargo test -p groupcache-tests --all-features --test parity` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use groupcache_runtime::metrics::{METRICS, Metric, MetricKind};
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

/// The rows of the tables, without their heads: what stands in each cell.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().filter_map(|line| line.strip_prefix('|')?.trim_end().strip_suffix('|'));
    let rows: Vec<Vec<_>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
    let is_head =
        |row: &Vec<&str>| row.last() == Some(&"shown by") || row.iter().all(|cell| cell.starts_with("---"));
    rows.into_iter().filter(|row| !is_head(row)).collect()
}

fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2).filter(|name| name.contains('_'))
}

/// What has a claim to be believed: a test's name, or why it cannot occur, in words.
fn is_shown(cell: &str) -> bool {
    let reason = cell.strip_prefix("cannot occur: ");
    names(cell).next().is_some() || reason.is_some_and(|words| words.split(' ').count() >= 4)
}

#[test]
fn every_row_of_the_parity_table_has_a_test_or_a_reason() {
    let table = fs::read_to_string(repository().join("runtime/PARITY.md")).expect("the table");
    let rows = rows(&table);
    assert!(rows.len() > 60, "{} rows", rows.len());
    for row in &rows {
        let [what, ours, shown] = row[..] else { panic!("not three cells: {row:?}") };
        assert!(!what.is_empty() && !ours.is_empty(), "{row:?}");
        assert!(is_shown(shown), "neither a test nor `cannot occur: ...`: {row:?}");
    }
    for empty in ["", "see S1", "`Server::stop`", "cannot occur: no", "cannot occur"] {
        assert!(!is_shown(empty), "{empty}");
    }
}

/// Not `.env`, and nobody's variables: what a library is not told, it does not know.
#[test]
fn no_library_reads_the_environment() {
    let mut sources = 0;
    for library in ["core", "proto", "runtime", "runtime-tokio", "runtime-async-std"] {
        each_source(&repository().join(library).join("src"), &mut |path, text| {
            // The binary has flags that variables can set; it says so in its help.
            if !path.components().any(|part| part.as_os_str() == "bin") {
                sources += 1;
                assert!(!text.contains("env::") && !text.contains("dotenv"), "{}", path.display());
            }
        });
    }
    assert!(sources > 100, "{sources} sources");
}

fn each_source(folder: &Path, look: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            each_source(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            look(&path, &fs::read_to_string(&path).expect("a source file"));
        }
    }
}

#[test]
fn every_test_that_the_parity_table_names_exists() {
    let root = repository();
    let mut tests = BTreeSet::new();
    tests_below(root, &mut tests);
    let table = fs::read_to_string(root.join("runtime/PARITY.md")).expect("the table");
    let rows = rows(&table);
    let named: Vec<&str> =
        rows.iter().flat_map(|row| names(row.last().copied().unwrap_or_default())).collect();
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

/// Where the list of metrics begins. What stands before it is written by hand.
const MARK: &str = "<!-- The list. Made of the table in src/metrics/table.rs. -->\n";

#[test]
fn the_document_lists_every_metric_as_the_table_does() {
    let path = repository().join("runtime/METRICS.md");
    let document = fs::read_to_string(&path).expect("METRICS.md is there");
    let (by_hand, listed) = document.split_once(MARK).expect("the mark stands before the list");
    let list = list_of_metrics();
    if std::env::var_os("UPDATE_METRICS").is_some() {
        fs::write(path, format!("{by_hand}{MARK}{list}")).expect("METRICS.md can be written");
        return;
    }
    assert!(listed == list, "METRICS.md is not of this table: UPDATE_METRICS=1 writes it anew");
}

#[test]
fn names_of_metrics_are_of_one_family_and_say_their_unit_and_kind() {
    let mut seen = BTreeSet::new();
    for metric in METRICS {
        let (name, unit) = (metric.name, metric.unit.map(|unit| unit.as_str()));
        assert!(seen.insert(name), "{name} is listed twice");
        assert!(name.starts_with("groupcache_") && !metric.help.contains('\n'), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == MetricKind::Counter, "{name}");
        assert_eq!(name.ends_with("_bytes"), unit == Some("bytes"), "{name}");
        assert_eq!(name.ends_with("_seconds"), unit == Some("seconds"), "{name}");
    }
}

fn list_of_metrics() -> String {
    let mut text =
        String::from("\n| metric | kind | unit | labels | what it says |\n|---|---|---|---|---|\n");
    for Metric { name, kind, unit, labels, help, .. } in METRICS {
        let unit = unit.map_or("", |unit| unit.as_str());
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let row = format!("| `{name}` | {} | {unit} | {} | {help} |", kind.name(), labels.join(" "));
        writeln!(text, "{row}").expect("a string takes it");
    }
    text
}
