//! What is shown: the nodes' last answers, and how they are looked at.

use std::collections::VecDeque;

use crate::live::Live;

/// A node's answer, or why there is none.
pub(super) type Seen = Result<Live, String>;

/// Answers that are kept for rates: as many as a wide terminal has columns for.
const HISTORY: usize = 240;

pub(super) struct Screen {
    pub(super) nodes: Vec<Node>,
    /// Which of them is shown.
    pub(super) at: usize,
    /// How many lines of the lists are scrolled by.
    pub(super) scroll: usize,
    pub(super) help: bool,
    /// Whether new answers are let pass.
    pub(super) still: bool,
}

/// A node as it was seen.
pub(super) struct Node {
    pub(super) url: String,
    history: VecDeque<Live>,
    /// Why the last look came to nothing.
    pub(super) trouble: Option<String>,
}

impl Screen {
    pub(super) fn new(urls: impl IntoIterator<Item = String>) -> Self {
        let node = |url| Node { url, history: VecDeque::new(), trouble: Some("asking".to_owned()) };
        Self { nodes: urls.into_iter().map(node).collect(), at: 0, scroll: 0, help: false, still: false }
    }

    pub(super) fn node(&self) -> &Node {
        &self.nodes[self.at]
    }

    pub(super) fn take(&mut self, node: usize, seen: Seen) {
        if !self.still {
            self.nodes[node].take(seen);
        }
    }

    pub(super) fn turn(&mut self, by: isize) {
        self.at = (self.at as isize + by).rem_euclid(self.nodes.len() as isize) as usize;
        self.scroll = 0;
    }

    /// One line, while the longest list goes on.
    pub(super) fn scroll_down(&mut self) {
        let longest = self.node().latest().map_or(0, |live| {
            let hot = live.hot_keys.as_ref().map_or(0, |hot| hot.keys.len());
            hot.max(live.flights.len()).max(live.errors.len()).max(live.ring.members.len())
        });
        self.scroll = (self.scroll + 1).min(longest.saturating_sub(1));
    }
}

impl Node {
    fn take(&mut self, seen: Seen) {
        match seen {
            Ok(live) => {
                self.trouble = None;
                // A node that has started anew counts from 0.
                if self.latest().is_some_and(|before| before.uptime_ms > live.uptime_ms) {
                    self.history.clear();
                }
                if self.history.len() == HISTORY {
                    self.history.pop_front();
                }
                self.history.push_back(live);
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    pub(super) fn latest(&self) -> Option<&Live> {
        self.history.back()
    }

    /// What is counted now, less what was counted a minute ago, or at the first look.
    pub(super) fn lately(&self, count: impl Fn(&Live) -> u64) -> u64 {
        let Some(now) = self.latest() else { return 0 };
        let recent = |live: &&Live| now.uptime_ms - live.uptime_ms <= 60_000;
        let first = self.history.iter().find(recent).filter(|_| self.history.len() > 1);
        // After a single look there is no difference: all that was ever counted is told.
        count(now).saturating_sub(first.map_or(0, count))
    }

    /// How much a count grew in each second between two looks, the latest last.
    pub(super) fn rates(&self, count: impl Fn(&Live) -> u64) -> Vec<f64> {
        let pairs = self.history.iter().zip(self.history.iter().skip(1));
        let rate = |(before, now): (&Live, &Live)| {
            let ms = now.uptime_ms.saturating_sub(before.uptime_ms).max(1);
            count(now).saturating_sub(count(before)) as f64 * 1e3 / ms as f64
        };
        pairs.map(rate).collect()
    }

    /// The part of the look-ups between two looks that were hits; 0 where there were none.
    pub(super) fn ratios(&self) -> Vec<f64> {
        let (hits, gets) = (self.rates(Live::hits), self.rates(|live| live.count("gets")));
        hits.iter().zip(&gets).map(|(hits, gets)| if *gets > 0.0 { hits / gets } else { 0.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(uptime_ms: u64, gets: u64, main_hits: u64) -> Seen {
        let page = json!({ "uptime_ms": uptime_ms, "counters": { "gets": gets, "main_hits": main_hits } });
        Ok(serde_json::from_value(page).expect("reads"))
    }

    #[test]
    fn rates_are_what_two_looks_differ_by_and_begin_anew_with_the_node() {
        let mut screen = Screen::new(["a".to_owned(), "b".to_owned()]);
        screen.take(0, live(1_000, 100, 50));
        assert_eq!(screen.node().lately(Live::hits), 50, "since the start, after one look");
        screen.take(0, live(3_000, 300, 200));
        assert_eq!(screen.node().rates(|live| live.count("gets")), [100.0]);
        assert_eq!((screen.node().ratios(), screen.node().lately(Live::hits)), (vec![0.75], 150));
        screen.take(0, live(500, 5, 5));
        assert!(screen.node().rates(Live::hits).is_empty(), "it was started anew");
        screen.still = true;
        screen.take(0, live(1_000, 9, 9));
        assert_eq!(screen.node().latest().map(|live| live.uptime_ms), Some(500));
    }

    #[test]
    fn a_node_that_is_away_is_shown_as_it_was_with_the_reason() {
        let mut screen = Screen::new(["a".to_owned(), "b".to_owned()]);
        screen.take(1, live(1_000, 1, 1));
        screen.take(1, Err("gone".to_owned()));
        screen.turn(-1);
        assert_eq!((screen.at, screen.node().trouble.as_deref()), (1, Some("gone")));
        assert!(screen.node().latest().is_some());
        screen.turn(1);
        assert_eq!(screen.at, 0);
    }
}
