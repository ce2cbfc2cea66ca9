//! What a node says at `/-/live` and `/-/why`, as its readers take it: what a node of another version leaves out is empty.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

/// A node at work.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Live {
    pub(crate) node: String,
    pub(crate) status: String,
    pub(crate) at_ms: u64,
    pub(crate) uptime_ms: u64,
    pub(crate) ring: Ring,
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) shares: Vec<Share>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) flights: Vec<Flight>,
    pub(crate) hot_keys: Option<HotKeys>,
    pub(crate) errors: Vec<Error>,
}

impl Live {
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Look-ups that were answered at once.
    pub(crate) fn hits(&self) -> u64 {
        ["main_hits", "hot_hits", "negative_hits", "stale_hits"].iter().map(|name| self.count(name)).sum()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ring {
    pub(crate) placement: String,
    pub(crate) fingerprint: String,
    pub(crate) members: Vec<Member>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) share: f64,
    pub(crate) me: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Share {
    pub(crate) share: String,
    pub(crate) bytes: u64,
    pub(crate) budget: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) latency: Option<Latency>,
}

impl Peer {
    /// Whether its breaker is open, so that its keys are asked elsewhere.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.state.as_str(), "down" | "redialling")
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) median_us: u64,
    pub(crate) p99_us: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Flight {
    pub(crate) group: String,
    pub(crate) key: String,
    pub(crate) peer: Option<String>,
    pub(crate) waiters: u32,
    pub(crate) age_ms: u64,
    pub(crate) fenced: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HotKeys {
    pub(crate) one_in: u32,
    pub(crate) window_ms: u64,
    pub(crate) keys: Vec<HotKey>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HotKey {
    pub(crate) group: String,
    pub(crate) key: String,
    pub(crate) count: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Error {
    pub(crate) at_ms: u64,
    pub(crate) times: u64,
    pub(crate) kind: String,
    pub(crate) group: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) text: String,
}

/// What a node knows of a key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Explanation {
    pub(crate) group: String,
    pub(crate) key: String,
    pub(crate) node: String,
    pub(crate) fingerprint: String,
    pub(crate) owner: Option<String>,
    pub(crate) owned_here: bool,
    pub(crate) successors: Vec<String>,
    pub(crate) owner_link: Option<Peer>,
    pub(crate) kept: Option<Kept>,
    pub(crate) flight: Option<Flight>,
    pub(crate) last: Option<Outcome>,
    pub(crate) errors: Vec<Error>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    pub(crate) share: String,
    pub(crate) bytes: u64,
    pub(crate) charge: u64,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) expired_ms: Option<u64>,
    pub(crate) age_ms: Option<u64>,
    pub(crate) age_at_most_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    pub(crate) what: String,
    pub(crate) peer: Option<String>,
    pub(crate) ago_ms: u64,
    pub(crate) took_ms: f64,
}

/// A duration as a person reads it: two units at most.
pub(crate) fn time(ms: u64) -> String {
    let cut = match ms {
        0..1_000 => ms,
        1_000..3_600_000 => ms - ms % 1_000,
        3_600_000..86_400_000 => ms - ms % 60_000,
        _ => ms - ms % 3_600_000,
    };
    humantime::format_duration(Duration::from_millis(cut)).to_string()
}

/// A latency as a person reads it.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// A number with its thousands apart.
pub(crate) fn whole(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text from elsewhere as a terminal may show it: what would move its cursor or change its colours is escaped.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // Beside the control characters those that reverse the direction of what follows.
        if c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(whole), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([7, 1_250, 99_400, 2_500_000].map(micros), ["7 µs", "1.2 ms", "99 ms", "2.5 s"]);
        assert_eq!([150, 1_500, 61_234, 3_723_000].map(time), ["150ms", "1s", "1m 1s", "1h 2m"]);
    }

    #[test]
    fn what_would_play_with_the_terminal_is_escaped() {
        assert_eq!(harmless("plain ключ"), "plain ключ");
        assert_eq!(harmless("\x1b[31mred\x07\u{202e}"), "\\u{1b}[31mred\\u{7}\\u{202e}");
    }

    #[test]
    fn a_node_of_another_version_is_read_as_far_as_it_goes() {
        let live: Live =
            serde_json::from_str(r#"{"node":"a:1","counters":{"gets":3},"later":[1]}"#).expect("reads");
        assert_eq!((live.node.as_str(), live.count("gets"), live.count("loads")), ("a:1", 3, 0));
    }
}
