//! Ids that a shard never gave out: of another shard, and of another life of the same one.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use groupcache_core::{
    Attempt, Disposition, Effects, Failure, FailureKind, FlightId, GroupConfig, GroupId, Instant, Intent,
    Load, LoadRequest, Outcome, Shard, ShardConfig, Ticket, Value,
};

use super::{Bench, ME, hashed, ring};

/// What other shards gave out.
pub(super) struct Supply {
    /// Tickets of another shard.
    pub(super) tickets: Vec<Ticket>,
    /// Loads of another shard, and of one that has the same number.
    loads: Vec<(FlightId, Attempt)>,
}

/// Made once.
pub(super) fn supply() -> &'static Supply {
    static SUPPLY: OnceLock<Supply> = OnceLock::new();
    SUPPLY.get_or_init(|| {
        let mut supply = Supply { tickets: Vec::new(), loads: Vec::new() };
        for index in [6, 5] {
            let (mut out, now) = (Effects::new(), Instant::ZERO);
            let mut shard = Shard::new(index, ShardConfig::default(), ME, ring(1), 1, now).expect("in range");
            shard.add_group(GroupId::new(0), GroupConfig::default()).expect("in range");
            for n in 0..70 {
                let key = (0, vec![n]);
                let load = LoadRequest::new(hashed(&key, u64::MAX), (), Instant::MAX);
                if let (Ok(Load::Wait(ticket)), 6) = (shard.load(now, load, &mut out), index) {
                    supply.tickets.push(ticket);
                }
            }
            supply.loads.extend(out.drain_intents().filter_map(|intent| match intent {
                Intent::Load { flight, attempt, .. } => Some((flight, attempt)),
                _ => None,
            }));
        }
        supply
    })
}

impl Bench {
    /// An answer to a load that this shard did not begin, or not yet.
    pub(super) fn answer_foreign(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let (id, attempt) = *bytes.choose(&supply().loads)?;
        if self.model.flights.contains_key(&id) {
            return Ok(()); // It has begun meanwhile.
        }
        let outcome = match bytes.int_in_range(0..=2)? {
            0 => Outcome::Failed(Failure::new(FailureKind::NotFound)),
            1 => Outcome::Unreachable(None),
            _ => Outcome::Value { value: Value::from(&b"of nobody"[..]), ttl: None },
        };
        let disposition = if bytes.arbitrary()? {
            self.shard.handle_loaded(self.now, id, attempt, outcome, &mut self.out)
        } else {
            self.shard.handle_fetched(self.now, id, attempt, outcome, &mut self.out)
        };
        assert_eq!(disposition, Disposition::Stale, "{id:?} of another shard");
        assert!(self.out.is_empty());
        Ok(())
    }
}
