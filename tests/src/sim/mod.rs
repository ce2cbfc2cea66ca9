//! The cluster simulator: whole nodes of the core on a virtual clock, with a network, an etcd and an origin that fail.
//!
//! A run is a [`Plan`] and operations, both decoded from entropy: of a seed, or of libFuzzer's. First things go wrong, as the plan has it, and after every
//! step what users were promised must hold (`books`). Then faults end, some for good, and within bounded time the fleet must have come together
//! again (`liveness`). The same entropy makes the same run, to the last event: [`Outcome::hash`] says so.
//!
//! The rooms: `world` (the clock, and one step), `plan` (what is drawn once), `op` (what is drawn all the time) and `apply` (what it does), `host` (a
//! process), `carry` (intents out, facts in), `transport` and `network` (connections over lines), `registry` and `etcd`, `origin`, `ledger` (the books),
//! `run`, `minimize`, `coverage`, `trace`.

mod apply;
mod books;
mod carry;
mod clock;
mod coverage;
mod etcd;
mod event;
mod host;
mod ledger;
mod liveness;
mod minimize;
mod network;
mod op;
mod origin;
mod plan;
mod random;
mod registry;
mod run;
mod trace;
mod transport;
mod world;

pub use coverage::Coverage;
pub use minimize::{Minimized, minimize};
pub use plan::{MAX_NODES, OriginPlan, Plan, Weather};
pub use random::entropy;
pub use run::{Job, Outcome, Recording, replay, run_bytes};
