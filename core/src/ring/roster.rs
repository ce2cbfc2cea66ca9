//! The members of a ring: checked once, then found by id and by name.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::member::Member;
use super::placement::Placement;
use crate::canary::{self, Canary};
use crate::error::RingError;
use crate::id::PeerId;

/// The members in the order in which the tables number them, and two indexes. Memory: 28 bytes a member (on 64 bits) besides its name.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Roster {
    members: Arc<[Member]>,
    by_name: Box<[u16]>,
    by_id: Box<[u16]>,
}

impl Roster {
    /// Checks the members, and sorts them by name where the scheme does not care for their order. O(n log n).
    pub(super) fn new(placement: Placement, mut members: Vec<Member>) -> Result<Self, RingError> {
        check_each(placement, &members)?;
        if !placement.depends_on_order() && !canary::is(Canary::RingByListOrder) {
            members.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        }
        let by_name = sorted_by(&members, |a, b| a.name().cmp(b.name()));
        for (a, b) in neighbours(&members, &by_name) {
            if a.name() == b.name() {
                return Err(RingError::DuplicateMember(a.name().to_string()));
            }
        }
        let by_id = sorted_by(&members, |a, b| a.id().cmp(&b.id()));
        for (a, b) in neighbours(&members, &by_id) {
            if a.id() == b.id() {
                return Err(RingError::DuplicateId {
                    id: a.id(),
                    members: [a.name().to_string(), b.name().to_string()],
                });
            }
        }
        Ok(Self { members: members.into(), by_name, by_id })
    }

    /// Nobody.
    pub(super) fn empty() -> Self {
        Self { members: Arc::new([]), by_name: Box::new([]), by_id: Box::new([]) }
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn index_of_id(&self, id: PeerId) -> Option<u16> {
        self.find(&self.by_id, |member| member.id().cmp(&id))
    }

    pub(super) fn index_of_name(&self, name: &str) -> Option<u16> {
        self.find(&self.by_name, |member| member.name().cmp(name))
    }

    fn find(&self, order: &[u16], by: impl Fn(&Member) -> core::cmp::Ordering) -> Option<u16> {
        order.binary_search_by(|&index| by(&self.members[usize::from(index)])).ok().map(|at| order[at])
    }
}

fn check_each(placement: Placement, members: &[Member]) -> Result<(), RingError> {
    let max = placement.max_members();
    if members.len() > max {
        return Err(RingError::TooManyMembers { count: members.len(), max });
    }
    let max = placement.max_weight();
    for member in members {
        if member.name().is_empty() {
            return Err(RingError::EmptyName);
        }
        if !(1..=max).contains(&member.weight()) {
            return Err(RingError::BadWeight {
                member: member.name().to_string(),
                weight: member.weight(),
                max,
            });
        }
    }
    Ok(())
}

/// The members' indexes in an order; where that leaves two equal, the one listed first comes first.
fn sorted_by(members: &[Member], by: impl Fn(&Member, &Member) -> core::cmp::Ordering) -> Box<[u16]> {
    let mut order: Box<[u16]> = (0..members.len() as u16).collect();
    order.sort_by(|&a, &b| by(&members[usize::from(a)], &members[usize::from(b)]));
    order
}

fn neighbours<'a>(members: &'a [Member], order: &'a [u16]) -> impl Iterator<Item = (&'a Member, &'a Member)> {
    order.windows(2).map(|pair| (&members[usize::from(pair[0])], &members[usize::from(pair[1])]))
}
