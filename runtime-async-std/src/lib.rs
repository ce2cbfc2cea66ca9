//! groupcache on async-std: a peer-to-peer, read-through cache that a service embeds.
//!
//! Every process of a fleet joins one ring. Each key has one owner; a miss is loaded once for the whole fleet, by its owner, however many
//! callers and nodes ask at once. Values stay as they are until they expire or are removed. There is no cache server to run.
//!
//! # A service
//!
//! HTTP is hyper's, over async-std's sockets: web frameworks for async-std are as discontinued as it is. Two of it, with each other's address, are a
//! fleet:
//!
//! ```no_run
//! use async_std::net::TcpListener;
//! use groupcache_async_std::{Group, RetrieveError, Server};
//! use hyper::body::Incoming;
//! use hyper::server::conn::http1;
//! use hyper::service::service_fn;
//! use hyper::{Request, Response, StatusCode};
//! use smol_hyper::rt::FuturesIo;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     async_std::task::block_on(run())
//! }
//!
//! async fn run() -> Result<(), Box<dyn std::error::Error>> {
//!     let members = ["10.0.0.1:6324", "10.0.0.2:6324"]; // the same list on both
//!     let server = Server::builder().addr(members[0]).peers(members).build()?;
//!     // Called once for a key, by its owner, however many ask on however many nodes.
//!     let scores = server.new_group("scores", |name: String| async move {
//!         match ask_the_database(&name).await? {
//!             Some(score) => Ok(score),
//!             None => Err(RetrieveError::not_found()),
//!         }
//!     })?;
//!     let listener = TcpListener::bind("0.0.0.0:8080").await?;
//!     server.start().await?;
//!
//!     loop {
//!         let (stream, _) = listener.accept().await?;
//!         let scores = scores.clone();
//!         let service = service_fn(move |request| score(scores.clone(), request));
//!         let connection = http1::Builder::new().serve_connection(FuturesIo::new(stream), service);
//!         async_std::task::spawn(connection);
//!     }
//!     // On a signal: `server.stop().await` leaves the fleet, and finishes what peers have asked.
//! }
//!
//! /// `GET /NAME`
//! async fn score(scores: Group, request: Request<Incoming>) -> hyper::http::Result<Response<String>> {
//!     let (status, body) = match scores.get(request.uri().path().trim_start_matches('/')).await {
//!         Ok(score) => (StatusCode::OK, score.to_string()),
//!         Err(error) if error.is_not_found() => (StatusCode::NOT_FOUND, error.to_string()),
//!         Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()),
//!     };
//!     Response::builder().status(status).body(body)
//! }
//!
//! async fn ask_the_database(name: &str) -> std::io::Result<Option<String>> {
//!     Ok((name == "Tom").then(|| "630".to_owned()))
//! }
//! ```
//!
//! The example `http_service` is the whole program, with flags, removal and an end in order; `node` is a node in front of files or a web server.
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
//!
//! # Testing a service that embeds it
//!
//! Members of one process find each other in a [`MemoryRegistry`]; port 0 takes any free port. Nothing has to be faked, and nothing outlives the
//! test:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use groupcache_async_std::{MemoryRegistry, RetrieveError, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! async_std::task::block_on(async {
//!     let registry = Arc::new(MemoryRegistry::new());
//!     let mut members = Vec::new();
//!     for _ in 0..2 {
//!         let server = Server::builder().addr("127.0.0.1:0").registry(registry.clone()).build()?;
//!         let scores = server.new_group("scores", |name: String| async move {
//!             Ok::<_, RetrieveError>(format!("the score of {name}"))
//!         })?;
//!         server.start().await?;
//!         members.push((server, scores));
//!     }
//!     // Until they have met, each loads what it is asked for.
//!     let met = |server: &Server| server.ring().members.iter().filter(|member| member.up).count() == 2;
//!     while !members.iter().all(|(server, _)| met(server)) {
//!         async_std::task::sleep(Duration::from_millis(5)).await;
//!     }
//!     for (_, scores) in &members {
//!         assert_eq!(scores.get("Tom").await?.as_bytes(), b"the score of Tom");
//!     }
//!     let loads = members.iter().filter_map(|(server, _)| server.stats().get("loads"));
//!     assert_eq!(loads.sum::<u64>(), 1);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # What is here
//!
//! This crate is [`AsyncStd`], the [`Runtime`] that a node runs on, and everything of `groupcache_runtime`. No tokio runtime is entered; parts of
//! tokio that need none (its channels and IO traits) are among the dependencies. `groupcache-tokio` is the same on tokio, and nodes of both
//! join the same ring.

#![forbid(unsafe_code)]

mod rt;

#[doc(inline)]
pub use groupcache_runtime::*;
pub use rt::AsyncStd;

/// A node of a fleet, on async-std.
pub type Server = groupcache_runtime::Server<AsyncStd>;

/// A namespace of keys with one origin, on async-std.
pub type Group = groupcache_runtime::Group<AsyncStd>;

/// Sets a node up, on async-std.
pub type ServerBuilder = groupcache_runtime::ServerBuilder<AsyncStd>;

/// Sets a group up, on async-std.
pub type GroupBuilder = groupcache_runtime::GroupBuilder<AsyncStd>;
