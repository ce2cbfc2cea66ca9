//! Operations: what the generator draws, what is recorded, and what is played again. An operation is data, and makes sense whatever came before it, so
//! that a trace with some of them left out is still a trace.

use arbitrary::{Result, Unstructured};

use super::clock::{MS, SECOND, Time};
use super::plan::{MAX_JUMP, Plan, Weather};

/// One operation on the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Time passes.
    Pass(Time),
    /// A caller of a node asks for a key, and waits no longer than that.
    Get { node: u8, key: u16, patience: Time },
    /// Callers of all nodes ask for a key at once, so many of each.
    Burst { key: u16, callers: u8 },
    /// A caller that waits leaves.
    Cancel { pick: u16 },
    /// A key gets a new version at the origin, and is then removed: what users are told to do.
    Remove { node: u8, key: u16 },
    /// A key gets a new version, and nobody is told.
    Bump { key: u16 },
    /// All keys of a group get new versions, and the group is flushed.
    Flush { node: u8, group: u8 },
    /// A node's process ends. Silently where its machine is gone: nobody hears that its connections are.
    Crash { node: u8, silent: bool },
    /// A node that is down comes back, empty.
    Restart { node: u8 },
    /// A node leaves in order.
    Stop { node: u8 },
    /// A node's process stands still for so long.
    Pause { node: u8, time: Time },
    /// A node's clock is set.
    Jump { node: u8, by: i64 },
    /// The network parts: one node or half of them from the others, in both directions or in one; with it, or without, from etcd.
    Partition { nodes: u16, both: bool, etcd: bool },
    /// The network is whole again.
    Heal,
    /// One direction of a line stands still for so long.
    Clog { from: u8, to: u8, time: Time },
    /// What the network does changes.
    Weather { loss: u16, doubled: u16, broken: u16 },
    /// A connection breaks.
    Break { pick: u16 },
    /// Something happens to etcd.
    Etcd(EtcdOp),
    /// What the origin does changes.
    Origin { fails: u16, hangs: u16, slow: bool },
    /// Something that a node was told is told again.
    Echo { pick: u16 },
    /// A node is told or asked what nobody in their right mind would.
    Strange { node: u8, what: u8, pick: u16 },
}

/// What happens to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EtcdOp {
    /// It answers with errors.
    Refuse,
    /// It says nothing.
    Silence,
    /// It is well again, with all leases renewed or not.
    Recover { renew: bool },
    /// It comes back without its data.
    LoseData,
    /// It forgets history.
    Compact,
    /// It ends all watches.
    EndWatches,
}

macro_rules! kinds {
    ($($kind:ident),*) => {
        /// The kinds of operations, to weigh them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind { $($kind),* }

        impl Kind {
            pub(super) const ALL: &[Self] = &[$(Self::$kind),*];
            pub(super) const COUNT: usize = Self::ALL.len();

            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind)),* }
            }
        }
    };
}

kinds!(
    Pass, Get, Burst, Cancel, Remove, Bump, Flush, Crash, Restart, Stop, Pause, Jump, Partition, Heal, Clog,
    Weather, Break, Etcd, Origin, Echo, Strange
);

impl Op {
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Pass(_) => Kind::Pass,
            Self::Get { .. } => Kind::Get,
            Self::Burst { .. } => Kind::Burst,
            Self::Cancel { .. } => Kind::Cancel,
            Self::Remove { .. } => Kind::Remove,
            Self::Bump { .. } => Kind::Bump,
            Self::Flush { .. } => Kind::Flush,
            Self::Crash { .. } => Kind::Crash,
            Self::Restart { .. } => Kind::Restart,
            Self::Stop { .. } => Kind::Stop,
            Self::Pause { .. } => Kind::Pause,
            Self::Jump { .. } => Kind::Jump,
            Self::Partition { .. } => Kind::Partition,
            Self::Heal => Kind::Heal,
            Self::Clog { .. } => Kind::Clog,
            Self::Weather { .. } => Kind::Weather,
            Self::Break { .. } => Kind::Break,
            Self::Etcd(_) => Kind::Etcd,
            Self::Origin { .. } => Kind::Origin,
            Self::Echo { .. } => Kind::Echo,
            Self::Strange { .. } => Kind::Strange,
        }
    }

    /// Draws the next operation of a plan.
    pub(super) fn draw(plan: &Plan, bytes: &mut Unstructured<'_>) -> Result<Self> {
        let node = |bytes: &mut Unstructured<'_>| bytes.int_in_range(0..=plan.nodes as u8 - 1);
        let rare = |bytes: &mut Unstructured<'_>| bytes.choose(&[0, 0, 10, 100]).copied();
        Ok(match kind(&plan.weights, bytes)? {
            Kind::Pass => Self::Pass(pass(bytes)?),
            Kind::Get => {
                Self::Get { node: node(bytes)?, key: key(plan, bytes)?, patience: patience(plan, bytes)? }
            }
            Kind::Burst => Self::Burst { key: key(plan, bytes)?, callers: bytes.int_in_range(1..=4)? },
            Kind::Cancel => Self::Cancel { pick: bytes.arbitrary()? },
            Kind::Remove => Self::Remove { node: node(bytes)?, key: key(plan, bytes)? },
            Kind::Bump => Self::Bump { key: key(plan, bytes)? },
            Kind::Flush => Self::Flush { node: node(bytes)?, group: bytes.int_in_range(0..=1)? },
            Kind::Crash => Self::Crash { node: node(bytes)?, silent: bytes.ratio(1, 3)? },
            Kind::Restart => Self::Restart { node: node(bytes)? },
            Kind::Stop => Self::Stop { node: node(bytes)? },
            Kind::Pause => Self::Pause { node: node(bytes)?, time: span(bytes)? },
            Kind::Jump => Self::Jump { node: node(bytes)?, by: jump(bytes)? },
            Kind::Partition => Self::Partition {
                nodes: if bytes.ratio(1, 2)? { 1 << node(bytes)? } else { bytes.arbitrary()? },
                both: bytes.ratio(2, 3)?,
                etcd: bytes.ratio(1, 2)?,
            },
            Kind::Heal => Self::Heal,
            Kind::Clog => {
                let ends = plan.nodes as u8;
                let (from, to) = (bytes.int_in_range(0..=ends)?, bytes.int_in_range(0..=ends)?);
                Self::Clog { from, to, time: span(bytes)? }
            }
            Kind::Weather => {
                Self::Weather { loss: rare(bytes)?, doubled: rare(bytes)?, broken: rare(bytes)? }
            }
            Kind::Break => Self::Break { pick: bytes.arbitrary()? },
            Kind::Etcd => Self::Etcd(etcd(bytes)?),
            Kind::Origin => {
                Self::Origin { fails: rare(bytes)?, hangs: rare(bytes)?, slow: bytes.ratio(1, 4)? }
            }
            Kind::Echo => Self::Echo { pick: bytes.arbitrary()? },
            Kind::Strange => Self::Strange {
                node: node(bytes)?,
                what: bytes.int_in_range(0..=9)?,
                pick: bytes.arbitrary()?,
            },
        })
    }
}

fn kind(weights: &[u16; Kind::COUNT], bytes: &mut Unstructured<'_>) -> Result<Kind> {
    let sum: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
    let mut left = bytes.int_in_range(0..=sum.max(1) - 1)?;
    for &kind in Kind::ALL {
        let weight = u32::from(weights[kind as usize]);
        if left < weight {
            return Ok(kind);
        }
        left -= weight;
    }
    Ok(Kind::Pass)
}

/// Mostly as short as what happens on the way; at times long enough for time-outs and leases.
fn pass(bytes: &mut Unstructured<'_>) -> Result<Time> {
    let scale = *bytes.choose(&[1_000, MS / 10, MS, MS, 10 * MS, 10 * MS, 100 * MS, 500 * MS])?;
    let scale = if bytes.ratio(1, 24)? { 4 * SECOND } else { scale };
    Ok(scale * bytes.int_in_range(1..=4)?)
}

fn span(bytes: &mut Unstructured<'_>) -> Result<Time> {
    Ok(*bytes.choose(&[MS, 50 * MS, 500 * MS, 3 * SECOND, 12 * SECOND])? * bytes.int_in_range(1..=3)?)
}

fn jump(bytes: &mut Unstructured<'_>) -> Result<i64> {
    let size = *bytes.choose(&[1, MS, 200 * MS, 3 * SECOND, MAX_JUMP])? as i64;
    Ok(if bytes.ratio(1, 2)? { size } else { -size })
}

fn patience(plan: &Plan, bytes: &mut Unstructured<'_>) -> Result<Time> {
    if plan.is_polite {
        return Ok(60 * SECOND);
    }
    Ok(*bytes.choose(&[0, 1, MS, 60 * MS, 300 * MS, SECOND, 10 * SECOND, 60 * SECOND])?)
}

/// Half of the keys are from the few hot ones. The last two of a plan cannot be loaded: one is empty, one is too long.
fn key(plan: &Plan, bytes: &mut Unstructured<'_>) -> Result<u16> {
    let strange = !plan.is_polite && bytes.ratio(1, 64)?;
    if strange {
        return Ok(plan.keys.all + bytes.int_in_range(0..=1)?);
    }
    let most = if bytes.ratio(1, 2)? { plan.keys.hot } else { plan.keys.all };
    bytes.int_in_range(0..=most - 1)
}

fn etcd(bytes: &mut Unstructured<'_>) -> Result<EtcdOp> {
    Ok(match bytes.int_in_range(0..=9)? {
        0 => EtcdOp::Refuse,
        1 => EtcdOp::Silence,
        2..=5 => EtcdOp::Recover { renew: bytes.arbitrary()? },
        6 => EtcdOp::LoseData,
        7 | 8 => EtcdOp::Compact,
        _ => EtcdOp::EndWatches,
    })
}

impl Weather {
    /// The weather after an operation: only what goes wrong changes.
    pub(super) const fn turned(self, loss: u16, doubled: u16, broken: u16) -> Self {
        Self { loss, doubled, broken, ..self }
    }
}
