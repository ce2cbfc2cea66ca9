//! What the examples `blocking` and `polling` share: everything that is neither a loop nor a socket.
//!
//! None of this does IO on sockets, so it serves either loop, and would serve a third:
//!
//! - [`wire`]: the messages between nodes, and their bytes.
//! - [`exchange`]: what the messages mean to the core, and what the core's intents mean as messages.
//! - [`commands`]: what callers in the same process ask of a node.
//! - [`members`]: a registry that is a fixed list.
//! - [`workers`]: threads that ask the origin, which blocks.
//! - [`demonstration`]: three nodes, and what is to be seen of them. Not to be copied.

pub(crate) mod commands;
pub(crate) mod demonstration;
pub(crate) mod exchange;
pub(crate) mod members;
pub(crate) mod wire;
pub(crate) mod workers;

use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use groupcache_core::{ConfigError, Effects, GroupConfig, Instant, Node, NodeConfig, Wake};

use self::commands::{Caller, Done};
use self::exchange::GROUP;
use self::workers::Origin;

/// What a node is started with.
pub(crate) struct Setup {
    /// Where peers are listened to.
    pub(crate) listener: TcpListener,
    /// This node's address, as the others know it.
    pub(crate) name: String,
    /// All nodes, this one included.
    pub(crate) members: Arc<[String]>,
    /// Where values come from.
    pub(crate) origin: Origin,
    /// Feeds the jitter: another one for each node.
    pub(crate) seed: u64,
}

/// The node, the buffer that it writes what it wants into, and the clock that both loops read the time from.
pub(crate) struct Core {
    pub(crate) node: Node<Caller>,
    pub(crate) out: Effects<Caller>,
    clock: Clock,
}

impl Core {
    /// A node with one group, [`GROUP`], that has not started.
    pub(crate) fn new(name: &str, seed: u64) -> Result<Self, ConfigError> {
        let clock = Clock::start();
        let mut config = NodeConfig::new(name);
        // A value must fit into a frame, and a key does by far.
        config.shard.max_value_len = NonZeroUsize::MIN.saturating_add(wire::MAX_VALUE - 1);
        let mut node = Node::new(config, seed, clock.now())?;
        node.add_group(GROUP, &GroupConfig::default())?;
        Ok(Self { node, out: Effects::new(), clock })
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// How long to sleep at most: `None` until something happens.
    pub(crate) fn time_until(&self, wake: Wake) -> Option<Duration> {
        match wake {
            Wake::Now => Some(Duration::ZERO),
            Wake::At(at) => Some(at.saturating_since(self.now())),
            Wake::Idle => None,
        }
    }

    /// Gives callers what they have waited for. A caller that has left does not mind.
    pub(crate) fn deliver(&self, out: &mut Effects<Caller>) {
        for completion in out.drain_completions() {
            let _left = completion.waiter.send(Done::Answered(completion.result));
        }
        for removed in out.drain_removals() {
            let addr = |&peer| self.node.membership().peer_addr(peer).map(ToString::to_string);
            let unacknowledged = removed.unacknowledged.iter().filter_map(addr).collect();
            let _left = removed.waiter.send(Done::Removed { unacknowledged });
        }
    }
}

/// The edge between the system's clock and the core's integers.
#[derive(Clone, Copy)]
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn now(self) -> Instant {
        Instant::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// How far a node has come. Between the order to stop and the end, what is in progress is given some time to finish.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It takes part.
    Running,
    /// It has told the registry that it leaves, and finishes what is in progress until then.
    Leaving { until: Instant },
    /// It dies where it stands, as by a signal.
    Killed,
}

impl Stage {
    /// Whether the loop ends here.
    pub(crate) fn is_over(self, core: &Core) -> bool {
        match self {
            Self::Running => false,
            Self::Leaving { until } => {
                until <= core.now() || (core.node.has_left() && core.node.usage().flights == 0)
            }
            Self::Killed => true,
        }
    }

    /// When the loop has to look at the stage again.
    pub(crate) fn next_wake(self) -> Wake {
        match self {
            Self::Running => Wake::Idle,
            Self::Leaving { until } => Wake::At(until),
            Self::Killed => Wake::Now,
        }
    }
}
