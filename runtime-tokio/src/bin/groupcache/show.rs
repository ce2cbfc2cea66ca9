//! `groupcache ring` and `stats`: a node's pages for people.

use std::fmt::Arguments;

use bytesize::ByteSize;
use hyper::Method;
use serde_json::Value;

use crate::cli::{RingArgs, ShowArgs};
use crate::client::{ask, ask_json};
use crate::report::{Exit, print};

/// `groupcache ring`: members and their shares.
pub(crate) async fn ring(args: &RingArgs) -> Result<(), Exit> {
    show(&args.show, "/-/ring", ring_table).await
}

/// `groupcache stats`: counters.
pub(crate) async fn stats(args: &ShowArgs) -> Result<(), Exit> {
    show(args, "/-/stats", stats_table).await
}

async fn show(args: &ShowArgs, path: &str, table: impl FnOnce(&Value) -> String) -> Result<(), Exit> {
    if args.json {
        return print(&ask(&args.node, Method::GET, path).await?);
    }
    print(table(&ask_json(&args.node, Method::GET, path).await?).as_bytes())
}

fn ring_table(ring: &Value) -> String {
    let members = ring["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = format!(
        "{} placed by {}, epoch {}, fingerprint {}\n\n",
        if members.len() == 1 { "1 member".to_owned() } else { format!("{} members", members.len()) },
        plain(&ring["placement"]),
        plain(&ring["epoch"]),
        plain(&ring["fingerprint"]),
    );
    let width = members.iter().map(|member| plain(&member["name"]).len()).max().unwrap_or(0).max(6);
    push_line(&mut text, format_args!("{:width$}  WEIGHT   SHARE", "MEMBER"));
    for member in members {
        let share = member["share"].as_f64().unwrap_or(0.0) * 100.0;
        let mark = if member["me"] == true { "  this node" } else { "" };
        let (name, weight) = (plain(&member["name"]), plain(&member["weight"]));
        push_line(&mut text, format_args!("{name:width$}  {weight:>6}  {share:>5.1}%{mark}"));
    }
    text
}

fn stats_table(stats: &Value) -> String {
    let Some(counters) = stats.as_object() else {
        return format!("{stats}\n");
    };
    let names = counters.keys().map(String::len).max().unwrap_or(0);
    let values = counters.values().map(|value| plain(value).len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in counters {
        let in_words = match (name.as_str(), value.as_u64()) {
            ("bytes" | "budget", Some(bytes)) => format!("  {}", ByteSize(bytes)),
            _ => String::new(),
        };
        push_line(&mut text, format_args!("{name:names$}  {:>values$}{in_words}", plain(value)));
    }
    text
}

fn push_line(text: &mut String, line: Arguments<'_>) {
    text.push_str(&format!("{line}\n"));
}

/// A JSON value as a person reads it: strings without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_ring_is_a_table_of_members() {
        let table = ring_table(&json!({
            "placement": "slots/1", "epoch": 3, "fingerprint": "00ff00ff00ff00ff",
            "members": [
                { "name": "127.0.0.1:6324", "weight": 1, "share": 0.25, "me": true },
                { "name": "h:1", "weight": 3, "share": 0.75, "me": false },
            ],
        }));
        assert_eq!(
            table,
            "2 members placed by slots/1, epoch 3, fingerprint 00ff00ff00ff00ff\n\n\
             MEMBER          WEIGHT   SHARE\n\
             127.0.0.1:6324       1   25.0%  this node\n\
             h:1                  3   75.0%\n"
        );
    }

    #[test]
    fn counters_line_up_and_sizes_are_said_in_words_too() {
        let table = stats_table(&json!({ "gets": 12, "budget": 67_108_864u64 }));
        assert_eq!(table, "budget  67108864  64.0 MiB\ngets          12\n");
    }
}
