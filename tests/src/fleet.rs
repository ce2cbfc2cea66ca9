//! Several nodes on one ring.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::etcd::Etcd;
use crate::node::{Node, NodeOptions};
use crate::wait::{ensure, poll_until};

/// How the members of a fleet find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// `--peers`: everyone is told of everyone.
    Peers,
    /// `--etcd`: everyone registers and watches.
    Etcd,
}

/// Nodes that see one ring. Indexes like a slice of nodes.
#[derive(Debug)]
pub struct Fleet {
    nodes: Vec<Node>,
    /// The registry of a fleet by [`Membership::Etcd`].
    pub etcd: Option<Etcd>,
}

impl Fleet {
    /// Starts `count` nodes with `options` on fixed ports, and waits until all of them see the same ring of `count` members.
    ///
    /// # Panics
    /// When they do not.
    #[must_use]
    pub fn start(count: usize, membership: Membership, options: &NodeOptions) -> Self {
        let etcd = (membership == Membership::Etcd).then(Etcd::start);
        let fixed: Vec<NodeOptions> = (0..count).map(|_| options.clone().fixed()).collect();
        let names: Vec<&str> = fixed.iter().map(NodeOptions::addr).collect();
        let join = match &etcd {
            Some(etcd) => ["--etcd".to_owned(), etcd.url()],
            None => ["--peers".to_owned(), names.join(",")],
        };
        // All are started before any is waited for: a fleet comes up in any order.
        let nodes: Vec<Node> =
            fixed.iter().map(|options| Node::spawn(&options.clone().args(&join))).collect();
        nodes.iter().for_each(Node::wait_ready);
        let fleet = Self { nodes, etcd };
        fleet.wait_whole();
        fleet
    }

    /// Waits until every node sees every node, and all place alike.
    ///
    /// # Panics
    /// When they do not in time.
    #[track_caller]
    pub fn wait_whole(&self) {
        let mut names: Vec<&str> = self.nodes.iter().map(Node::addr).collect();
        names.sort_unstable();
        poll_until(
            "the fleet agrees on a whole ring, and everybody is connected",
            Duration::from_secs(20),
            || {
                let rings: Vec<_> = self.nodes.iter().map(Node::ring).collect();
                let whole = rings
                    .iter()
                    .all(|ring| ring.names() == names && ring.fingerprint == rings[0].fingerprint)
                    && rings.iter().flat_map(|ring| &ring.members).all(|member| member.up);
                ensure(whole, || format!("{rings:?}"))
            },
        );
    }

    /// The index of the node with this name.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn index_of(&self, name: &str) -> usize {
        self.nodes
            .iter()
            .position(|node| node.addr() == name)
            .unwrap_or_else(|| panic!("no node is named {name:?}"))
    }

    /// The registry.
    ///
    /// # Panics
    /// When the fleet has none.
    #[must_use]
    pub fn etcd(&mut self) -> &mut Etcd {
        self.etcd.as_mut().expect("the fleet is one by etcd")
    }
}

/// Waits until each of these sees all of them, and is connected to them.
///
/// # Panics
/// When they are not in time.
#[track_caller]
pub fn wait_connected(nodes: &[&Node], limit: Duration) {
    poll_until("everybody is connected to everybody", limit, || {
        let rings: Vec<_> = nodes.iter().map(|node| node.ring()).collect();
        let mut members = rings.iter().flat_map(|ring| &ring.members);
        let whole = rings.iter().all(|ring| ring.members.len() == nodes.len());
        ensure(whole && members.all(|member| member.up), || format!("{rings:?}"))
    });
}

impl Deref for Fleet {
    type Target = [Node];

    fn deref(&self) -> &[Node] {
        &self.nodes
    }
}

impl DerefMut for Fleet {
    fn deref_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }
}
