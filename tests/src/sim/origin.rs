//! The model origin: every value says of which key it is, of which version, and which load brought it, so that a mix-up shows.

use std::time::Duration;

use groupcache_core::{Failure, FailureKind, GroupId, HashedKey, Outcome, Value};

use super::clock::{MS, SECOND, Time};
use super::plan::{GROUPS, OriginPlan, Plan};
use super::random::{Random, mix};

/// The keys of a run, by number: the plan's, then one that is empty and one that is too long.
#[derive(Debug)]
pub(super) struct Keys(Vec<(Box<[u8]>, u64)>);

impl Keys {
    pub(super) fn new(plan: &Plan) -> Self {
        let longest = plan.node.shard.max_key_len.get();
        let bytes = |number: u16| {
            let mut bytes = format!("k{number}").into_bytes();
            if number < plan.keys.all {
                bytes.resize(longest.min(bytes.len() + usize::from(plan.keys.padding % (number + 1))), b'.');
            }
            match number - number.min(plan.keys.all) {
                0 if number < plan.keys.all => bytes,
                0 => Vec::new(),
                _ => vec![b'x'; longest + 1],
            }
        };
        let hash = |number: u16| mix(u64::from(number) + 1) % plan.keys.hashes;
        Self((0..plan.keys.all + 2).map(|number| (bytes(number).into(), hash(number))).collect())
    }

    pub(super) fn group(number: u16) -> GroupId {
        GroupId::new(u32::from(number) % GROUPS)
    }

    pub(super) fn hashed(&self, number: u16) -> HashedKey<'_> {
        let (bytes, hash) = &self.0[usize::from(number)];
        // Spread to where shards are told apart, or not at all.
        HashedKey::new(Self::group(number), bytes, hash.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of a key that a node names.
    pub(super) fn number(&self, bytes: &[u8]) -> Option<u16> {
        let digits = bytes.strip_prefix(b"k")?.iter().take_while(|byte| byte.is_ascii_digit());
        let number =
            digits.fold(0, |number: u16, byte| number.wrapping_mul(10).wrapping_add(u16::from(byte - b'0')));
        self.0.get(usize::from(number)).is_some_and(|(of, _)| **of == *bytes).then_some(number)
    }
}

/// What a load read, by its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) key: u16,
    pub(super) version: u32,
}

/// The number of a load.
pub(super) type ReadId = u32;

/// The origin and its data.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) plan: OriginPlan,
    max_value_len: usize,
    next_version: u32,
    versions: Vec<u32>,
    group_versions: [u32; GROUPS as usize],
    reads: Vec<Read>,
    /// The latest version of each key that was read when there was none.
    absent: Vec<Option<u32>>,
    /// Loads of each key.
    pub(super) loads: Vec<u32>,
}

/// What the origin does with a load.
pub(super) enum Reply {
    After(Time, Outcome),
    Never,
}

impl Origin {
    pub(super) fn new(plan: &Plan, keys: usize) -> Self {
        Self {
            plan: plan.origin,
            max_value_len: plan.node.shard.max_value_len.get(),
            next_version: 0,
            versions: vec![0; keys],
            group_versions: [0; GROUPS as usize],
            reads: Vec::new(),
            absent: vec![None; keys],
            loads: vec![0; keys],
        }
    }

    pub(super) fn version(&self, key: u16) -> u32 {
        let group = Keys::group(key).index() as usize;
        self.versions[usize::from(key)].max(self.group_versions[group])
    }

    /// A key's data changes. Answers the new version.
    pub(super) fn bump(&mut self, key: u16) -> u32 {
        self.next_version += 1;
        self.versions[usize::from(key)] = self.next_version;
        self.next_version
    }

    /// All data of a group changes.
    pub(super) fn bump_group(&mut self, group: u32) -> u32 {
        self.next_version += 1;
        self.group_versions[group as usize] = self.next_version;
        self.next_version
    }

    /// The version in which a key was last found not to exist.
    pub(super) fn absent_in(&self, key: u16) -> Option<u32> {
        self.absent[usize::from(key)]
    }

    /// Reads a key, now: the answer takes its time, and the data may change meanwhile. An expired value that is still that of the data is answered with.
    pub(super) fn load(&mut self, key: u16, stale: Option<&Value>, random: &mut Random) -> Reply {
        self.loads[usize::from(key)] += 1;
        let plan = self.plan;
        if random.happens(plan.hangs) {
            return Reply::Never;
        }
        let time = plan.delay.0 + random.exponential(plan.delay.1);
        if random.happens(plan.fails) {
            let outcome = match random.below(3) {
                0 => Outcome::Unreachable(None),
                1 => Outcome::Failed(Failure::new(FailureKind::Overloaded)),
                _ => Outcome::Failed(Failure::new(FailureKind::OriginFailed)),
            };
            return Reply::After(time, outcome);
        }
        let version = self.version(key);
        if (mix(u64::from(key) << 32 | u64::from(version)) % 1000) < u64::from(plan.absent) {
            let slot = &mut self.absent[usize::from(key)];
            *slot = (*slot).max(Some(version));
            return Reply::After(time, Outcome::Failed(Failure::new(FailureKind::NotFound)));
        }
        let ttl = random.happens(plan.with_ttl).then(|| {
            const TTLS: [Time; 5] = [0, MS, 100 * MS, SECOND, 20 * SECOND];
            Duration::from_nanos(TTLS[random.below(TTLS.len() as u64) as usize])
        });
        let unchanged =
            stale.filter(|stale| self.read_of(stale).is_some_and(|(_, read)| read.version == version));
        if let Some(value) = unchanged.cloned() {
            return Reply::After(time, Outcome::Value { value, ttl });
        }
        let id = self.reads.len() as ReadId;
        self.reads.push(Read { key, version });
        let len = if random.happens(plan.oversize) {
            self.max_value_len + 1
        } else {
            HEAD + (random.below(u64::from(plan.value_len) + 1) as usize).min(self.max_value_len - HEAD)
        };
        Reply::After(time, Outcome::Value { value: encode(key, version, id, len), ttl })
    }

    /// What a value says of itself.
    ///
    /// # Errors
    /// It is not one that this origin gave out for `key`.
    pub(super) fn recognise(&self, key: u16, value: &[u8]) -> Result<(ReadId, Read), String> {
        let id = value
            .get(6..HEAD)
            .and_then(|bytes| bytes.try_into().ok())
            .map(ReadId::from_le_bytes)
            .ok_or_else(|| format!("a value of {} bytes", value.len()))?;
        let read =
            *self.reads.get(id as usize).ok_or_else(|| format!("a value of load {id}, which never was"))?;
        if read.key != key {
            return Err(format!("a value of key {} for key {key}", read.key));
        }
        if *value != *encode(key, read.version, id, value.len()) {
            return Err(format!("a value of key {key} was changed on its way"));
        }
        Ok((id, read))
    }

    /// The load that a value on its way came from.
    pub(super) fn read_of(&self, value: &[u8]) -> Option<(ReadId, Read)> {
        let id = ReadId::from_le_bytes(value.get(6..HEAD)?.try_into().ok()?);
        Some((id, *self.reads.get(id as usize)?))
    }
}

/// Key, version, load.
const HEAD: usize = 10;

fn encode(key: u16, version: u32, id: ReadId, len: usize) -> Value {
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&key.to_le_bytes());
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.resize(len.max(HEAD), id as u8);
    Value::from(bytes)
}
