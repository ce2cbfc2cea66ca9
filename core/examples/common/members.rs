//! A registry that is a fixed list. Members that are down stay on it: the links find out, and successors stand in.

use std::sync::Arc;
use std::time::Duration;

use groupcache_core::{LeaseId, MemberRecord, RegistryIntent, RegistryOutcome, Revision};

use super::Core;

/// Nothing here has to be kept alive.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Answers what the node asks of the registry, at once. A real registry would be asked over the network, and answer later.
pub(crate) fn answer(core: &mut Core, members: &Arc<[String]>, intent: &RegistryIntent) {
    let (op, outcome) = match *intent {
        RegistryIntent::Register { op, .. } => {
            (op, RegistryOutcome::Registered { lease: LeaseId::new(1), ttl: FOR_EVER })
        }
        RegistryIntent::KeepAlive { op, .. } => (op, RegistryOutcome::KeptAlive { ttl: FOR_EVER }),
        RegistryIntent::Deregister { op, .. } => (op, RegistryOutcome::Deregistered),
        RegistryIntent::List { op } => {
            let records = members.iter().map(|name| MemberRecord::new(name.as_str(), 1)).collect();
            (op, RegistryOutcome::Listed { records, revision: Revision::new(1) })
        }
        // The list does not change: a watch on it never brings anything.
        RegistryIntent::Watch { .. } => return,
    };
    let now = core.now();
    core.node.handle_registry(now, op, outcome, &mut core.out);
}
