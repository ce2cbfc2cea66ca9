//! What the services among the adapters' examples share, whatever they run on: flags, a database that is none, and statuses.
//!
//! `crate::groupcache` is the adapter that an example is for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};

use crate::groupcache::{DEFAULT_ADDR, ErrorKind, Level, Server};

/// A service that embeds groupcache: scores over HTTP, each read from the database once for the whole fleet.
///
/// Try two of them, in two terminals:
///
///   ... --addr 127.0.0.1:6324 --http 127.0.0.1:8080 --peers 127.0.0.1:6324,127.0.0.1:6325
///
///   ... --addr 127.0.0.1:6325 --http 127.0.0.1:8081 --peers 127.0.0.1:6324,127.0.0.1:6325
///
/// and from a third:
///
///   curl -i http://127.0.0.1:8080/scores/Tom             (the header x-groupcache says where from)
///
///   curl -i http://127.0.0.1:8081/scores/Tom
///
///   curl -X DELETE http://127.0.0.1:8080/scores/Tom      (forgotten by both)
///
///   curl http://127.0.0.1:8080/stats
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
pub(crate) struct Args {
    /// Where the other members reach this one: listened on, and its name on the ring. Port 0 takes any free one.
    #[arg(long, default_value = DEFAULT_ADDR, value_name = "HOST:PORT")]
    pub(crate) addr: String,

    /// All members, the same list on every one. This one is added when it is missing.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,...")]
    pub(crate) peers: Vec<String>,

    /// Where clients are served. Port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    pub(crate) http: String,
}

/// How long the database takes for an answer: its caller sleeps, in the way of its runtime.
pub(crate) const QUERY_TIME: Duration = Duration::from_millis(50);

/// A table in memory, in place of a database, that counts its queries.
#[derive(Debug)]
pub(crate) struct Table {
    scores: BTreeMap<&'static str, u32>,
    queries: AtomicUsize,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            scores: BTreeMap::from([("Tom", 630), ("Jack", 589), ("Sam", 567)]),
            queries: AtomicUsize::new(0),
        }
    }

    /// `SELECT score FROM scores WHERE name = ?`
    pub(crate) fn query(&self, name: &str) -> Option<u32> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.scores.get(name).copied()
    }

    pub(crate) fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }
}

/// What `/stats` answers.
pub(crate) fn stats(server: &Server, queries: usize) -> Value {
    json!({ "queries": queries, "ready": server.is_ready(), "members": server.ring().members, "cache": server.stats() })
}

/// What the header `x-groupcache` says.
pub(crate) fn source(level: Level) -> &'static str {
    match level {
        Level::Main => "cached",
        Level::Hot => "hot copy",
        Level::Peer => "its owner",
        Level::Origin => "database",
    }
}

/// What a failure is to a client. The kinds say who is to act: the client, this service, or whoever runs the database.
pub(crate) const fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::NotFound => 404,
        ErrorKind::InvalidKey => 400,
        ErrorKind::OriginFailed | ErrorKind::ValueTooLarge => 502,
        ErrorKind::Overloaded | ErrorKind::Stopping => 503,
        ErrorKind::Deadline => 504,
        _ => 500,
    }
}
