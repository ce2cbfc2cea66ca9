//! `METRICS.md`: the table, for people. `UPDATE_METRICS=1 cargo test -p groupcache-runtime --features metrics` writes it anew.

use std::fmt::Write;

use super::{METRICS, Metric, MetricKind};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/METRICS.md");

/// Where the list begins. What stands before it is written by hand.
const MARK: &str = "<!-- The list. Made of the table in src/metrics/table.rs. -->\n";

#[test]
fn the_document_lists_every_metric_as_the_table_does() {
    let document = std::fs::read_to_string(PATH).expect("METRICS.md is there");
    let (by_hand, listed) = document.split_once(MARK).expect("the mark stands before the list");
    let list = list();
    if std::env::var_os("UPDATE_METRICS").is_some() {
        std::fs::write(PATH, format!("{by_hand}{MARK}{list}")).expect("METRICS.md can be written");
        return;
    }
    assert!(listed == list, "METRICS.md is not of this table: UPDATE_METRICS=1 writes it anew");
}

#[test]
fn names_are_of_one_family_and_say_their_unit_and_kind() {
    let mut seen = std::collections::BTreeSet::new();
    for metric in METRICS {
        let name = metric.name;
        assert!(seen.insert(name), "{name} is listed twice");
        assert!(name.starts_with("groupcache_") && !metric.help.contains('\n'), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == MetricKind::Counter, "{name}");
        assert_eq!(name.ends_with("_bytes"), metric.unit == Some(::metrics::Unit::Bytes), "{name}");
        assert_eq!(name.ends_with("_seconds"), metric.unit == Some(::metrics::Unit::Seconds), "{name}");
    }
}

fn list() -> String {
    let mut text =
        String::from("\n| metric | kind | unit | labels | what it says |\n|---|---|---|---|---|\n");
    for Metric { name, kind, unit, labels, help } in METRICS {
        let unit = unit.map_or("", |unit| unit.as_str());
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let row = format!("| `{name}` | {} | {unit} | {} | {help} |", kind.name(), labels.join(" "));
        writeln!(text, "{row}").expect("a string takes it");
    }
    text
}
