//! What the tests of groupcache share: real processes on loopback, an origin that misbehaves on request, and a client that believes nothing.
//!
//! Most tests in `tests/tests` drive the real `groupcache` binary over sockets. This library starts it and what it talks to ([`Node`], [`Fleet`],
//! [`Etcd`], [`Origin`]), stands between them ([`Proxy`]), asks it ([`http`], [`Load`]) and waits for it ([`poll_until`]). A harness has nobody to return an error to: everything
//! here panics with a sentence when a test cannot go on, and every wait has a deadline. [`cluster`] runs the core's nodes without sockets, on a
//! virtual clock, and [`fuzz`] runs the core's machines against models.

#![forbid(unsafe_code)]

mod async_std_node;
#[cfg(feature = "conformance")]
pub mod chaos;
pub mod cluster;
#[cfg(feature = "compare")]
pub mod compare;
#[cfg(feature = "conformance")]
pub mod conformance;
mod etcd;
mod fleet;
pub mod fuzz;
#[cfg(feature = "conformance")]
pub mod grpc;
pub mod http;
mod load;
mod node;
mod origin;
mod ports;
mod process;
mod program;
pub mod prometheus;
mod proxy;
pub mod sim;
mod wait;

pub use async_std_node::AsyncStdNode;
pub use etcd::{Etcd, EtcdTls, PREFIX, record};
pub use fleet::{Fleet, Membership, wait_connected};
pub use load::{Load, Sample, percentile};
pub use node::{Member, Node, NodeOptions, Ring};
pub use origin::{Behaviour, Origin, value_of};
pub use ports::reserve;
pub use process::{Process, Signal, resident};
pub use program::{example, groupcache, python, repository};
pub use proxy::Proxy;
pub use wait::{ensure, poll_until};

/// README's examples compile, and run where they can.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
