//! groupcache on tokio: a peer-to-peer, read-through cache that a service embeds.
//!
//! Every process of a fleet joins one ring. Each key has one owner; a miss is loaded once for the whole fleet, by its owner, however many
//! callers and nodes ask at once. Values stay as they are until they expire or are removed. There is no cache server to run.
//!
//! # A service
//!
//! With axum. Two of it, with each other's address, are a fleet:
//!
//! ```no_run
//! use axum::extract::{Path, State};
//! use axum::http::StatusCode;
//! use axum::routing::get;
//! use groupcache_tokio::{Group, RetrieveError, Server};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let members = ["10.0.0.1:6324", "10.0.0.2:6324"]; // the same list on both
//!     let server = Server::builder().addr(members[0]).peers(members).build()?;
//!     // Called once for a key, by its owner, however many ask on however many nodes.
//!     let scores = server.new_group("scores", |name: String| async move {
//!         match ask_the_database(&name).await? {
//!             Some(score) => Ok(score),
//!             None => Err(RetrieveError::not_found()),
//!         }
//!     })?;
//!     let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
//!     server.start().await?;
//!
//!     let routes = axum::Router::new().route("/scores/{name}", get(score)).with_state(scores);
//!     let leave = async move {
//!         let _ = tokio::signal::ctrl_c().await;
//!         server.stop().await; // leaves the fleet, and finishes what peers have asked
//!     };
//!     axum::serve(listener, routes).with_graceful_shutdown(leave).await?;
//!     Ok(())
//! }
//!
//! async fn score(
//!     State(scores): State<Group>,
//!     Path(name): Path<String>,
//! ) -> Result<String, (StatusCode, String)> {
//!     match scores.get(&name).await {
//!         Ok(score) => Ok(score.to_string()),
//!         Err(error) if error.is_not_found() => Err((StatusCode::NOT_FOUND, error.to_string())),
//!         Err(error) => Err((StatusCode::BAD_GATEWAY, error.to_string())),
//!     }
//! }
//!
//! async fn ask_the_database(name: &str) -> std::io::Result<Option<String>> {
//!     Ok((name == "Tom").then(|| "630".to_owned()))
//! }
//! ```
//!
//! The examples `axum_service` and `sqlite_scores` are whole programs, the latter with a real database behind the cache.
//!
//! # What it promises
//!
//! One load for a key and fleet; one hop; a deadline; a dropped call harms nobody; a dead member costs one dial; an outage of the registry is not one of
//! the cache. The [`guide`] says each in full, and then:
//!
//! - **Errors to act on.** [`Error::kind`] is the same on every member: [`NotFound`](ErrorKind::NotFound) is an answer, and cached;
//!   [`OriginFailed`](ErrorKind::OriginFailed) has the origin's error as its source, and is not.
//! - **Removal.** Change the origin, then [`Group::remove`]: no load that began before brings the old value back, and the [`RemoveReport`] names who
//!   did not acknowledge. [`Group::flush`] does it for a whole group.
//! - **Freshness.** [`GroupBuilder::ttl`], [`Loaded::with_ttl`], [`GroupBuilder::stale_while_revalidate`], [`GroupBuilder::stale_if_error`];
//!   [`GroupBuilder::revalidate_for`] with [`Retriever::revalidate`], for origins that can say that nothing has changed.
//! - **Counters.** [`Server::stats`], [`Server::group_stats`] and [`Server::peer_stats`], [`Server::ring`] for who is there, [`Server::is_ready`] for a
//!   readiness probe. `Server::publish_metrics` hands all of it, and how long things take, to the facade of the crate `metrics`.
//! - **Traces.** [`ServerBuilder::tracing`]: a get that is no hit is one [`trace`], from its caller to the origin that loads for it.
//! - **Members.** [`ServerBuilder::peers`] takes a fixed list, [`ServerBuilder::registry`] a [`Registry`].
//! - **Limits.** [`ServerBuilder`] has all of them, each with its default.
//!
//! # Features
//!
//! | feature | for |
//! |---|---|
//! | `etcd` | `EtcdRegistry`: members find each other through etcd. Its build needs `protoc` |
//! | `dns` | `DnsRegistry`: members find each other through DNS |
//! | `tls` | `Tls` and `ReloadingTls`: TLS between members, and to etcd, by rustls |
//! | `metrics` | `Server::publish_metrics`: for Prometheus, and what else the crate `metrics` has exporters for |
//! | `cli` (default) | the binary `groupcache`. A library turns it off: `default-features = false` |
//!
//! # Testing a service that embeds it
//!
//! Members of one process find each other in a [`MemoryRegistry`]; port 0 takes any free port. Nothing has to be faked, and nothing outlives the
//! test:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use std::time::Duration;
//! use groupcache_tokio::{MemoryRegistry, RetrieveError, Server};
//!
//! #[tokio::main] // in a test: #[tokio::test]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (registry, queries) = (Arc::new(MemoryRegistry::new()), Arc::new(AtomicUsize::new(0)));
//!     let mut members = Vec::new();
//!     for _ in 0..2 {
//!         let server = Server::builder().addr("127.0.0.1:0").registry(registry.clone()).build()?;
//!         let counted = Arc::clone(&queries);
//!         let scores = server.new_group("scores", move |name: String| {
//!             counted.fetch_add(1, Ordering::SeqCst);
//!             async move { Ok::<_, RetrieveError>(format!("the score of {name}")) }
//!         })?;
//!         server.start().await?;
//!         members.push((server, scores));
//!     }
//!     // Until they have met, each loads what it is asked for.
//!     let met = |server: &Server| server.ring().members.iter().filter(|member| member.up).count() == 2;
//!     while !members.iter().all(|(server, _)| met(server)) {
//!         tokio::time::sleep(Duration::from_millis(5)).await;
//!     }
//!     for (_, scores) in &members {
//!         assert_eq!(scores.get("Tom").await?.as_bytes(), b"the score of Tom");
//!     }
//!     assert_eq!(queries.load(Ordering::SeqCst), 1);
//!     Ok(())
//! }
//! ```
//!
//! # What is here
//!
//! This crate is [`Tokio`], the [`Runtime`] that a node runs on, and everything of `groupcache_runtime`. `groupcache-async-std` is the same on
//! async-std, and nodes of both join the same ring.

#![forbid(unsafe_code)]

mod rt;

#[doc(inline)]
pub use groupcache_runtime::*;
pub use rt::Tokio;

/// A node of a fleet, on tokio.
pub type Server = groupcache_runtime::Server<Tokio>;

/// A namespace of keys with one origin, on tokio.
pub type Group = groupcache_runtime::Group<Tokio>;

/// Sets a node up, on tokio.
pub type ServerBuilder = groupcache_runtime::ServerBuilder<Tokio>;

/// Sets a group up, on tokio.
pub type GroupBuilder = groupcache_runtime::GroupBuilder<Tokio>;
