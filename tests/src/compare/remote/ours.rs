//! Two nodes of this project, on either runtime: the defaults, but for the time that hot copies live.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use groupcache_async_std::AsyncStd;
use groupcache_runtime::{Group, Runtime, Server, Stats};
use groupcache_tokio::Tokio;

use super::drive::Asker;
use crate::compare::host::Host;

/// Each value that is fetched is stored, and none answers: all keys have their turn before one comes up again, which takes longer than this.
const HOT_TTL: Duration = Duration::from_millis(1);

/// Bytes of the owner's cache: it has to hold every value.
const ALL: u64 = 768 << 20;

/// Bytes of the asker's: the default.
const SOME: u64 = 64 << 20;

/// A node, and its group.
pub(super) struct Node<R> {
    server: Server<R>,
    group: Group<R>,
}

impl<R: Runtime + Default> Clone for Node<R> {
    fn clone(&self) -> Self {
        Self { server: self.server.clone(), group: self.group.clone() }
    }
}

/// How a group is asked for the keys of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Get,
    GetMany,
}

/// A node, asked by one of its group's calls.
pub(super) struct Client<R> {
    pub(super) node: Node<R>,
    pub(super) by: By,
}

impl<R: Runtime + Default> Clone for Client<R> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone(), by: self.by }
    }
}

impl<R: Runtime + Default> Node<R> {
    /// Starts a node at `addr` that asks the member `other`.
    pub(super) async fn asker(addr: &str, other: &str) -> Self {
        Self::start(addr, other, Bytes::from_static(b"not the owner's"), SOME).await
    }

    /// Starts a node at `addr` that knows of the member `other`. Its origin answers every key with `value`.
    async fn start(addr: &str, other: &str, value: Bytes, budget: u64) -> Self {
        let server = Server::<R>::builder()
            .addr(addr)
            .peers([addr, other])
            .budget(budget)
            .hot_ttl(HOT_TTL)
            .build()
            .expect("settings in range");
        let load = move |_: String| {
            let value = value.clone();
            async move { Ok::<_, Infallible>(value) }
        };
        let group = server.new_group("group", load).expect("a new group");
        server.start().await.expect("a free port");
        Self { server, group }
    }

    /// Whether the other has been reached.
    pub(super) fn is_connected(&self) -> bool {
        self.server.ring().members.iter().all(|member| member.me || member.up)
    }

    /// Keys that `owner` owns.
    pub(super) fn keys(&self, owner: &str, count: usize) -> Vec<String> {
        let theirs = |key: &String| self.group.owner(key).as_deref() == Some(owner);
        (0..).map(super::key).filter(theirs).take(count).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        self.server.stats()
    }
}

impl<R: Runtime + Default> Asker for Client<R> {
    async fn ask(&self, keys: &[String]) {
        match self.by {
            By::Get => {
                let value = self.node.group.get(&keys[0]).await.expect("a value");
                assert!(!value.is_empty());
            }
            By::GetMany => {
                for value in self.node.group.get_many(keys).await {
                    assert!(!value.expect("a value").is_empty());
                }
            }
        }
    }
}

/// Serves at `addr` for ever. `listening` is told where.
pub(super) async fn serve(host: Host, addr: &str, other: &str, value: Bytes, listening: impl FnOnce(String)) {
    match host {
        Host::Tokio => serve_on::<Tokio>(addr, other, value, listening).await,
        Host::AsyncStd => serve_on::<AsyncStd>(addr, other, value, listening).await,
    }
}

async fn serve_on<R: Runtime + Default>(
    addr: &str,
    other: &str,
    value: Bytes,
    listening: impl FnOnce(String),
) {
    let _node = Node::<R>::start(addr, other, value, ALL).await;
    listening(addr.to_owned());
    std::future::pending().await
}
