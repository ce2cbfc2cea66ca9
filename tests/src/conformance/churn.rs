//! Members that join and leave, again and again, under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_std::task::sleep;
use futures_util::future::{join_all, join3};
use groupcache_core::{Member, PeerId, Placement, Ring, RingEpoch};

use super::Cluster;
use super::fleet::{Node, within};
use super::origin::{Origin, value_of};
use super::realm::{Realm, is_whole};

const KEYS: usize = 500;
const GETS: usize = 10_000;
const CHANGES: usize = 16;
const PACE: Duration = Duration::from_millis(200);
const CALLERS: usize = 8;

/// The rings that a node has seen, one after the other, as the owner of every key.
struct Seen {
    node: Node,
    epoch: u64,
    owners: Vec<String>,
    /// Keys that changed hands, summed over all changes.
    moved: usize,
    changes: usize,
}

impl Seen {
    fn new(node: Node, keys: &[String]) -> Self {
        let mut seen = Self { node, epoch: 0, owners: Vec::new(), moved: 0, changes: 0 };
        seen.look(keys);
        (seen.moved, seen.changes) = (0, 0);
        seen
    }

    fn look(&mut self, keys: &[String]) {
        let view = self.node.ring();
        if view.epoch == self.epoch {
            return;
        }
        let names = view.members.iter().map(|member| member.name.clone());
        let members = (0..).map(PeerId::new).zip(names).map(|(id, name)| Member::new(id, name)).collect();
        let ring = Ring::new(Placement::default(), RingEpoch::new(view.epoch), members);
        let ring = ring.expect("a node's ring is one");
        let owner = |key: &String| ring.owner(key.as_bytes()).expect("it has members").name().to_owned();
        let owners: Vec<_> = keys.iter().map(owner).collect();
        let moved = owners.iter().zip(&self.owners).filter(|(new, old)| new != old).count();
        self.moved += moved;
        self.changes += usize::from(moved > 0);
        (self.epoch, self.owners) = (view.epoch, owners);
    }
}

pub async fn joins_and_leaves_under_load_show_in_no_answer(cluster: &Cluster) {
    let realm = Realm::start(cluster).await;
    let mut fleet = cluster.fleet(4, realm.direct(), Origin::plain()).await;
    is_whole(&fleet).await;
    let stayers = fleet.nodes[..2].to_vec();
    let keys: Vec<_> = (0..KEYS).map(|index| format!("churn {index}")).collect();
    let mut seen: Vec<_> = stayers.iter().map(|node| Seen::new(node.clone(), &keys)).collect();
    let (over, gets) = (AtomicBool::new(false), AtomicUsize::new(0));

    let callers = (0..CALLERS).map(|caller| {
        let (node, keys, over, gets) = (&stayers[caller % 2], &keys, &over, &gets);
        async move {
            while !over.load(Ordering::SeqCst) || gets.load(Ordering::SeqCst) < GETS {
                let key = &keys[(gets.fetch_add(1, Ordering::SeqCst) * 7 + caller) % KEYS];
                assert_eq!(node.value(key).await, value_of(key));
                // Spread over all changes, and not done before the first.
                sleep(PACE * (CHANGES * CALLERS / 2) as u32 / GETS as u32).await;
            }
        }
    });
    let changed = async {
        for change in 0..CHANGES {
            let next = Instant::now() + PACE;
            let leaver = 2 + change / 2 % 2;
            if change % 2 == 0 {
                within("a leave", fleet.nodes[leaver].stop()).await;
            } else {
                fleet.restart(leaver, realm.direct()).await.expect("its port is free again");
            }
            sleep(next.saturating_duration_since(Instant::now())).await;
        }
        over.store(true, Ordering::SeqCst);
    };
    let watched = async {
        while !over.load(Ordering::SeqCst) {
            seen.iter_mut().for_each(|seen| seen.look(&keys));
            sleep(Duration::from_millis(1)).await;
        }
    };
    join3(join_all(callers), changed, watched).await;

    let (gets, loads) = (gets.load(Ordering::SeqCst), fleet.origin.loads());
    let moved = seen.iter().map(|seen| seen.moved).max().unwrap_or(0);
    let changes: Vec<_> = seen.iter().map(|seen| seen.changes).collect();
    assert!(gets >= GETS, "{gets} gets");
    assert!(changes.iter().all(|&changes| changes >= CHANGES / 2), "{changes:?} changes of the ring seen");
    // A key is loaded once, and may be once more whenever it changes hands.
    assert!((KEYS..=KEYS + moved).contains(&loads), "{loads} loads of {KEYS} keys, of which {moved} moved");
    is_whole(&fleet).await;
    for node in fleet.iter() {
        node.is_quiet().await;
    }
}
