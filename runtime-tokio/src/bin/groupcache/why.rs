//! `groupcache why`: what nodes know of a key, in words.

use std::fmt::Write;

use hyper::Method;
use serde_json::Value;

use crate::cli::WhyArgs;
use crate::client::{ask_json, path_of};
use crate::live::{Explanation, Kept, Peer, harmless, micros, size, time};
use crate::report::{Exit, print, say};

/// Asks each node, and tells what it says.
///
/// # Errors
/// A node does not answer, or has no such group. What the others say is told all the same.
pub(crate) async fn run(args: &WhyArgs) -> Result<(), Exit> {
    let path = format!("/-/why{}", path_of(&args.key.group, &args.key.key));
    let mut told = Vec::new();
    let mut failed = Vec::new();
    for node in args.fleet.or(&args.key.node) {
        match ask_json(&node, Method::GET, &path).await {
            Ok(said) => told.push(said),
            Err(exit) => failed.push(exit),
        }
    }
    if args.json {
        let lines: String = told.iter().map(|said| format!("{said}\n")).collect();
        print(lines.as_bytes())?;
    } else {
        print(in_words(told)?.as_bytes())?;
    }
    let last = failed.pop();
    failed.iter().for_each(|exit| say(&format!("groupcache: {}", exit.message())));
    last.map_or(Ok(()), Err)
}

fn in_words(told: Vec<Value>) -> Result<String, Exit> {
    let told = told.into_iter().map(serde_json::from_value::<Explanation>).collect::<Result<Vec<_>, _>>();
    let told = told.map_err(|error| Exit::other(format!("that is no answer of a node: {error}")))?;
    let mut text = told.iter().map(explanation).collect::<Vec<_>>().join("\n");
    if let [first, _, ..] = &*told {
        let kept =
            told.iter().filter(|it| it.kept.as_ref().is_some_and(|kept| kept.expired_ms.is_none())).count();
        let agreed = told.iter().all(|it| it.fingerprint == first.fingerprint);
        let owners = if agreed {
            "They agree on every owner."
        } else {
            "Their rings differ: until they agree, a key may be loaded by more than one node."
        };
        let _ = writeln!(text, "\nKept at {kept} of {} nodes. {owners}", told.len());
    }
    Ok(text)
}

/// One node's words: a line for each question, and what a get would do.
fn explanation(it: &Explanation) -> String {
    let mut text = format!("{}/{} at {}\n", harmless(&it.group), harmless(&it.key), it.node);
    let mut line = |what: &str, answer: String| {
        let _ = writeln!(text, "  {what:<12} {answer}");
    };
    line("owner", owner(it));
    if !it.successors.is_empty() {
        line("", format!("then {}", it.successors.join(", ")));
    }
    line("kept", it.kept.as_ref().map_or_else(|| "no".to_owned(), kept));
    line(
        "in progress",
        it.flight.as_ref().map_or_else(
            || "no".to_owned(),
            |flight| {
                let asked = flight.peer.as_deref().unwrap_or("the origin");
                let fenced =
                    if flight.fenced { "; it was removed meanwhile, so nothing of it is kept" } else { "" };
                format!("for {}, asked of {asked}, {} waiting{fenced}", time(flight.age_ms), flight.waiters)
            },
        ),
    );
    line(
        "last outcome",
        it.last.as_ref().map_or_else(
            || "not remembered".to_owned(),
            |last| {
                let from = last.peer.as_deref().unwrap_or("the origin");
                let took = micros((last.took_ms * 1e3) as u64);
                format!(
                    "{} from {from}, {} ago, after {took}",
                    last.what.replace('_', " "),
                    time(last.ago_ms)
                )
            },
        ),
    );
    match &*it.errors {
        [] => line("errors", "none remembered".to_owned()),
        errors => errors.iter().enumerate().for_each(|(at, error)| {
            let times = if error.times > 1 { format!(" ({} times)", error.times) } else { String::new() };
            line(
                if at == 0 { "errors" } else { "" },
                format!("{}{times}: {}", error.kind, harmless(&error.text)),
            );
        }),
    }
    line("a get here", next(it));
    text
}

fn owner(it: &Explanation) -> String {
    let Some(owner) = &it.owner else { return "unknown: this node knows of no member".to_owned() };
    if it.owned_here {
        return format!("{owner}, this node");
    }
    match &it.owner_link {
        None => format!("{owner}, to which there is no link"),
        Some(link) => {
            let took = link.latency.map_or_else(
                || "no answers in the last minute".to_owned(),
                |took| format!("median {}, p99 {}", micros(took.median_us), micros(took.p99_us)),
            );
            let state = match link.state.as_str() {
                "down" | "redialling" => "down: the breaker is open",
                "probing" => "probing: the breaker is half open",
                other => other,
            };
            format!("{owner}, {state} ({took})")
        }
    }
}

fn kept(kept: &Kept) -> String {
    let what = match kept.share.as_str() {
        "main" => "as the owner: ",
        "hot" => "as a copy: ",
        "negative" => "that there is none: ",
        _ => "",
    };
    let left = match (kept.expired_ms, kept.ttl_ms) {
        (Some(ago), _) => format!("expired {} ago", time(ago)),
        (None, Some(ttl)) => format!("{} more", time(ttl)),
        (None, None) => "does not expire".to_owned(),
    };
    let age = match (kept.age_ms, kept.age_at_most_ms) {
        (Some(age), _) => format!("here for {}", time(age)),
        (None, Some(age)) => format!("here for {} at the most", time(age)),
        (None, None) => "since when is unknown".to_owned(),
    };
    format!("{what}{}, charged {}; {left}; {age}", size(kept.bytes), size(kept.charge))
}

/// What a get would do now.
fn next(it: &Explanation) -> String {
    if let Some(kept) = it.kept.as_ref().filter(|kept| kept.expired_ms.is_none()) {
        return if kept.share == "negative" {
            "is answered with `not found`, from the cache".to_owned()
        } else {
            "is answered from the cache".to_owned()
        };
    }
    let stale = if it.kept.is_some() { ", or gets the expired value where the group allows it" } else { "" };
    if it.flight.as_ref().is_some_and(|flight| !flight.fenced) {
        return format!("joins the load in progress{stale}");
    }
    let (Some(owner), false) = (&it.owner, it.owned_here) else {
        return format!("loads it from the origin{stale}");
    };
    let down = it.owner_link.as_ref().is_some_and(Peer::is_down);
    match it.successors.first().filter(|_| down) {
        Some(next) if *next == it.node => {
            "loads it from the origin: the owner is down, and this node comes next".to_owned()
        }
        Some(next) => format!("asks {next}, since the owner is down"),
        None => format!("asks {owner}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_told_in_a_line_for_each_question() {
        let text = in_words(vec![json!({
            "group": "web", "key": "a\u{1b}[2J", "node": "a:1", "fingerprint": "00", "owner": "b:1", "owned_here": false,
            "successors": ["a:1", "c:1"],
            "owner_link": { "name": "b:1", "state": "up", "latency": { "count": 9, "median_us": 400, "p99_us": 1200 } },
            "kept": { "share": "hot", "bytes": 12, "charge": 130, "ttl_ms": 23_000, "age_at_most_ms": 7_000 },
            "last": { "what": "value", "peer": "b:1", "ago_ms": 7_000, "took_ms": 0.4 },
            "errors": [{ "kind": "unreachable", "times": 3, "text": "connection refused" }],
        })]);
        assert_eq!(
            text.expect("reads"),
            "web/a\\u{1b}[2J at a:1\n\
             \x20 owner        b:1, up (median 400 µs, p99 1.2 ms)\n\
             \x20              then a:1, c:1\n\
             \x20 kept         as a copy: 12 B, charged 130 B; 23s more; here for 7s at the most\n\
             \x20 in progress  no\n\
             \x20 last outcome value from b:1, 7s ago, after 400 µs\n\
             \x20 errors       unreachable (3 times): connection refused\n\
             \x20 a get here   is answered from the cache\n"
        );
    }

    #[test]
    fn what_a_get_would_do_follows_from_what_is_known() {
        let said = |about: Value| {
            let it: Explanation = serde_json::from_value(about).expect("reads");
            next(&it)
        };
        let down = json!({ "state": "down" });
        for (about, expected) in [
            (json!({ "owner": "a:1", "owned_here": true }), "loads it from the origin"),
            (json!({}), "loads it from the origin"),
            (json!({ "owner": "b:1" }), "asks b:1"),
            (
                json!({ "owner": "b:1", "owner_link": down, "successors": ["c:1"] }),
                "asks c:1, since the owner is down",
            ),
            (
                json!({ "owner": "b:1", "owner_link": down, "successors": ["a:1"], "node": "a:1" }),
                "this node comes next",
            ),
            (json!({ "owner": "b:1", "flight": { "waiters": 1 } }), "joins the load"),
            (json!({ "owner": "b:1", "flight": { "fenced": true } }), "asks b:1"),
            (json!({ "kept": { "share": "negative" } }), "`not found`"),
            (
                json!({ "owner": "b:1", "owned_here": true, "kept": { "share": "main", "expired_ms": 5 } }),
                "expired value",
            ),
        ] {
            assert!(said(about.clone()).contains(expected), "{about}: {}", said(about.clone()));
        }
    }
}
