//! What a run is: how many nodes, how they are configured, what the network and the origin are like, and which operations come how often. All of
//! it is drawn, limits of 1 and wild weights included: what nobody would configure is where assumptions hide.

use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use groupcache_core::{Eviction, GroupConfig, NodeConfig, OnAbandoned, Placement};

use super::clock::{MS, SECOND, Time};
use super::op::Kind;

/// The most nodes of a run.
pub const MAX_NODES: usize = 12;
/// The groups of every node.
pub(super) const GROUPS: u32 = 2;

/// A run, but for its operations.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes there are.
    pub nodes: usize,
    /// Nothing goes wrong, nothing is removed and nothing evicted: then loads are counted.
    pub is_polite: bool,
    /// Feeds everything that is drawn while the run goes on.
    pub(super) seed: u64,
    pub(super) node: NodeConfig,
    pub(super) groups: Vec<GroupConfig>,
    pub(super) keys: KeyPlan,
    pub(super) network: Weather,
    pub(super) origin: OriginPlan,
    /// Weights of the operations, by [`Kind`].
    pub(super) weights: [u16; Kind::COUNT],
    /// Where each node's clock begins, and the millionths by which it runs too fast.
    pub(super) clocks: Vec<(u64, i64)>,
    pub(super) node_weights: Vec<u32>,
    /// Nodes that speak only the Go system's protocol, as bits.
    pub(super) single: u16,
    /// Nodes that stay down when faults end, if they are down then, as bits.
    pub(super) lost_for_good: u16,
    /// Thousandths of answers to what was given up that come all the same.
    pub(super) late: u16,
    pub(super) keep_alive: Time,
    pub(super) dial_limit: Time,
}

/// The keys of a run.
#[derive(Clone, Debug)]
pub(super) struct KeyPlan {
    pub(super) hot: u16,
    pub(super) all: u16,
    /// Distinct table hashes: few collide.
    pub(super) hashes: u64,
    /// Bytes that make short keys longer.
    pub(super) padding: u16,
}

/// What the network does. All chances are thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// The least delay, and the mean of what comes on top.
    pub(super) delay: (Time, Time),
    /// Messages lost: for a while, where streams send them again.
    pub(super) loss: u16,
    /// Messages that come twice, where there are no streams.
    pub(super) doubled: u16,
    /// Answers in the middle of which their stream breaks.
    pub(super) broken: u16,
    /// Connections without order, and without sending again: less than a transport promises, and what the core says it can take.
    pub(super) datagrams: bool,
}

/// What the origin does. All chances are thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginPlan {
    pub(super) delay: (Time, Time),
    pub(super) fails: u16,
    pub(super) hangs: u16,
    /// Versions of keys in which they do not exist.
    pub(super) absent: u16,
    pub(super) oversize: u16,
    /// Values that come with a time to live.
    pub(super) with_ttl: u16,
    pub(super) value_len: u32,
}

fn above_zero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("above zero")
}

fn above_zero_len(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).expect("above zero")
}

fn millis(bytes: &mut Unstructured<'_>, choices: &[u64]) -> Result<Duration> {
    Ok(Duration::from_millis(*bytes.choose(choices)?))
}

fn limit(bytes: &mut Unstructured<'_>, choices: &[u32]) -> Result<NonZeroU32> {
    Ok(above_zero(*bytes.choose(choices)?))
}

impl Plan {
    /// Draws a plan. `nodes` sets their number where it is given.
    ///
    /// # Errors
    /// The bytes are at an end.
    pub fn draw(bytes: &mut Unstructured<'_>, nodes: Option<usize>) -> Result<Self> {
        let is_polite = bytes.ratio(1, 6)?;
        let drawn = bytes.int_in_range(1..=MAX_NODES)?;
        // Small fleets more often: they get further in as many steps.
        let drawn = if bytes.ratio(1, 2)? { drawn.div_ceil(3) } else { drawn };
        let nodes = nodes.unwrap_or(drawn).clamp(1, MAX_NODES);
        let seed = bytes.arbitrary()?;
        let node = if is_polite { polite_node(bytes)? } else { any_node(bytes)? };
        let groups =
            (0..GROUPS).map(|_| if is_polite { Ok(GroupConfig::default()) } else { any_group(bytes) });
        let groups = groups.collect::<Result<_>>()?;
        let clocks = (0..nodes).map(|_| clock(bytes)).collect::<Result<_>>()?;
        let weighted = node.placement == Placement::Slots && bytes.ratio(1, 2)?;
        let node_weights: Result<_> =
            (0..nodes).map(|_| if weighted { bytes.int_in_range(1..=3) } else { Ok(1) }).collect();
        Ok(Self {
            nodes,
            is_polite,
            seed,
            groups,
            keys: KeyPlan {
                hot: bytes.int_in_range(1..=6)?,
                all: *bytes.choose(&[8, 64, 512, 2048])?,
                hashes: *bytes.choose(&[u64::MAX, u64::MAX, 4, 1])?,
                padding: *bytes.choose(&[0, 0, 24])?,
            },
            network: any_weather(bytes, is_polite)?,
            origin: any_origin(bytes, is_polite, &node)?,
            weights: weights(bytes, is_polite)?,
            clocks,
            node_weights: node_weights?,
            single: if !is_polite && bytes.ratio(1, 8)? { bytes.arbitrary()? } else { 0 },
            lost_for_good: bytes.arbitrary::<u16>()? & bytes.arbitrary::<u16>()?,
            late: *bytes.choose(&[0, 0, 100, 1000])?,
            keep_alive: *bytes.choose(&[200, 2_000, 10_000])? * MS,
            dial_limit: *bytes.choose(&[100, 1_000, 1_000, 3_000])? * MS,
            node,
        })
    }
}

/// A node whose limits nobody reaches.
fn polite_node(bytes: &mut Unstructured<'_>) -> Result<NodeConfig> {
    let mut config = NodeConfig::new("-");
    config.placement = placement(bytes)?;
    config.shards = NonZeroU16::new(bytes.int_in_range(1..=3)?).expect("above zero");
    config.shard.max_flights = above_zero(4096);
    config.shard.max_waiters = above_zero(8192);
    config.shard.hot_per_mille = *bytes.choose(&[0, 125, 900])?;
    config.shard.hot_ttl = millis(bytes, &[50, 1_000, 30_000])?;
    config.link.window = limit(bytes, &[1, 2, 8])?;
    config.link.max_batch_keys = limit(bytes, &[1, 2, 256])?;
    config.membership.list_interval = millis(bytes, &[1_000, 10_000, 60_000])?;
    Ok(config)
}

fn placement(bytes: &mut Unstructured<'_>) -> Result<Placement> {
    // The ring of points is the quicker to build by far.
    Ok(if bytes.ratio(1, 12)? { Placement::Slots } else { Placement::GoSeed })
}

fn any_node(bytes: &mut Unstructured<'_>) -> Result<NodeConfig> {
    let mut config = NodeConfig::new("-");
    config.placement = placement(bytes)?;
    config.shards = NonZeroU16::new(bytes.int_in_range(1..=3)?).expect("above zero");
    let shard = &mut config.shard;
    // At least a byte for each shard.
    shard.budget = *bytes.choose(&[3, 700, 4 << 10, 64 << 10, 1 << 20, 16 << 20])?;
    shard.eviction = *bytes.choose(&[Eviction::B2, Eviction::B2Adaptive])?;
    shard.hot_per_mille = *bytes.choose(&[0, 125, 125, 800])?;
    shard.negative_per_mille = *bytes.choose(&[0, 15, 150])?;
    shard.max_key_len = above_zero_len(*bytes.choose(&[16, 64, 1024])?);
    shard.max_value_len = above_zero_len(*bytes.choose(&[256, 4096])?);
    shard.max_flights = limit(bytes, &[1, 2, 16, 512, 512])?;
    shard.max_waiters = limit(bytes, &[1, 3, 64, 1024, 1024])?;
    shard.load_timeout = millis(bytes, &[50, 500, 5_000, 5_000, 20_000])?;
    shard.deadline_margin = millis(bytes, &[0, 20, 20, 200])?;
    shard.peer_attempts = bytes.int_in_range(0..=3)?;
    shard.hot_ttl = millis(bytes, &[1, 50, 1_000, 30_000])?;
    shard.on_abandoned = *bytes.choose(&[OnAbandoned::Finish, OnAbandoned::Abort])?;
    shard.work_per_call = limit(bytes, &[1, 2, 256])?;
    let link = &mut config.link;
    link.max_batch_keys = limit(bytes, &[1, 2, 256])?;
    link.max_batch_bytes = above_zero_len(*bytes.choose(&[1, 20, 256 << 10])?);
    link.window = limit(bytes, &[1, 2, 8])?;
    link.single_window = limit(bytes, &[1, 128])?;
    link.max_open_batches = limit(bytes, &[1, 2, 1024])?;
    link.max_queue = limit(bytes, &[1, 3, 8192, 8192])?;
    link.failure_threshold = limit(bytes, &[1, 2, 5])?;
    link.backoff_base = millis(bytes, &[1, 50])?;
    link.backoff_max = millis(bytes, &[50, 500, 2_000])?;
    link.connect_timeout = millis(bytes, &[20, 500, 500, 2_000])?;
    let membership = &mut config.membership;
    membership.lease_ttl = millis(bytes, &[1_000, 2_000, 5_000, 10_000])?;
    membership.op_timeout = millis(bytes, &[100, 500, 2_000, 2_000])?;
    membership.backoff_base = millis(bytes, &[1, 100])?;
    membership.backoff_max = millis(bytes, &[100, 1_000, 3_000])?;
    membership.empty_guard = millis(bytes, &[0, 2_000, 10_000])?;
    membership.list_interval = millis(bytes, &[1_000, 10_000, 60_000])?;
    config.max_requests = limit(bytes, &[1, 4, 4096, 4096])?;
    config.max_removals = limit(bytes, &[1, 4, 1024, 1024])?;
    config.removal_timeout = millis(bytes, &[20, 500, 2_000, 2_000])?;
    Ok(config)
}

fn any_group(bytes: &mut Unstructured<'_>) -> Result<GroupConfig> {
    let mut config = GroupConfig::default();
    let ttl = millis(bytes, &[0, 0, 1, 100, 1_000, 10_000])?;
    config.ttl = (!ttl.is_zero()).then_some(ttl);
    config.ttl_jitter_per_mille = *bytes.choose(&[0, 100, 500])?;
    config.negative_ttl = millis(bytes, &[0, 100, 1_000, 10_000])?;
    config.stale_while_revalidate = millis(bytes, &[0, 0, 100, 5_000])?;
    config.stale_if_error = millis(bytes, &[0, 0, 100, 5_000])?;
    config.revalidate_for = millis(bytes, &[0, 100, 5_000])?;
    config.max_loads = limit(bytes, &[1, 4, 1024, 1024])?;
    Ok(config)
}

fn any_weather(bytes: &mut Unstructured<'_>, is_polite: bool) -> Result<Weather> {
    let delay = (*bytes.choose(&[1, MS / 10, MS])?, *bytes.choose(&[0, MS / 2, 5 * MS])?);
    if is_polite {
        return Ok(Weather { delay, loss: 0, doubled: 0, broken: 0, datagrams: false });
    }
    Ok(Weather {
        delay: (delay.0, if bytes.ratio(1, 6)? { 60 * MS } else { delay.1 }),
        loss: *bytes.choose(&[0, 0, 0, 5, 50])?,
        doubled: *bytes.choose(&[0, 0, 20, 200])?,
        broken: *bytes.choose(&[0, 0, 10, 100])?,
        datagrams: bytes.ratio(1, 4)?,
    })
}

fn any_origin(bytes: &mut Unstructured<'_>, is_polite: bool, node: &NodeConfig) -> Result<OriginPlan> {
    let delay = (*bytes.choose(&[0, MS, 100 * MS])?, *bytes.choose(&[MS, 20 * MS, 400 * MS])?);
    let (absent, value_len) = (*bytes.choose(&[0, 0, 60, 300])?, *bytes.choose(&[0, 40, 200, 3_000])?);
    let mut plan = OriginPlan { delay, fails: 0, hangs: 0, absent, oversize: 0, with_ttl: 0, value_len };
    if is_polite {
        plan.absent = 0;
        return Ok(plan);
    }
    plan.value_len = value_len.min(node.shard.max_value_len.get() as u32);
    plan.fails = *bytes.choose(&[0, 0, 50, 400])?;
    plan.hangs = *bytes.choose(&[0, 0, 10, 200])?;
    plan.oversize = *bytes.choose(&[0, 0, 0, 100])?;
    plan.with_ttl = *bytes.choose(&[0, 0, 200, 1000])?;
    Ok(plan)
}

/// A random subset of the operations, with wild weights. Time always passes.
fn weights(bytes: &mut Unstructured<'_>, is_polite: bool) -> Result<[u16; Kind::COUNT]> {
    let mut weights = [0; Kind::COUNT];
    for &kind in Kind::ALL {
        let wild: u16 = *bytes.choose(&[0, 1, 1, 3, 10, 40])?;
        weights[kind as usize] = match kind {
            Kind::Pass => 40 + wild,
            Kind::Get => 20 + 4 * wild,
            Kind::Burst => wild,
            _ if is_polite => 0,
            Kind::Cancel | Kind::Remove | Kind::Bump => 2 * wild,
            // Rare, since they reach far.
            Kind::Crash | Kind::Stop | Kind::Partition | Kind::Etcd | Kind::Pause | Kind::Jump => {
                wild.div_ceil(4)
            }
            _ => wild.div_ceil(2),
        };
    }
    Ok(weights)
}

/// Where a clock begins, far away as well, and how fast it runs: up to a twentieth too fast or too slow.
fn clock(bytes: &mut Unstructured<'_>) -> Result<(u64, i64)> {
    let start = *bytes.choose(&[0, 1 << 40, u64::MAX / 2, u64::MAX - (1 << 55)])?;
    let drift = *bytes.choose(&[0, 0, 100, -100, 50_000, -50_000])?;
    Ok((start, drift))
}

/// The longest that a clock is set forwards or back.
pub(super) const MAX_JUMP: Time = 10 * SECOND;
