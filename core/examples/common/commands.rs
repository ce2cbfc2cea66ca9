//! What callers in the same process ask of a node, and how they are answered.

use std::sync::mpsc;
use std::time::Duration;

use groupcache_core::{Answer, Load, LoadRequest, Node};

use super::exchange::Exchange;
use super::{Core, Stage};

/// How long a node that leaves gives to what is in progress.
const DRAIN: Duration = Duration::from_secs(5);

/// Who waits: the core's `W`. It comes back exactly once, and is then sent what it waited for. One type has to do for gets and removals.
pub(crate) type Caller = mpsc::Sender<Done>;

/// A look at a node.
pub(crate) type Look = Box<dyn FnOnce(&Node<Caller>) + Send>;

/// What a caller is sent.
#[derive(Debug)]
pub(crate) enum Done {
    /// What became of a get.
    Answered(Answer),
    /// A removal has been everywhere, except where it was not acknowledged.
    Removed { unacknowledged: Vec<String> },
    /// The removal was refused.
    Refused(groupcache_core::LoadError),
}

/// What is asked of a node.
pub(crate) enum Command {
    /// Gets a value, within a time.
    Get { key: Vec<u8>, patience: Duration, caller: Caller },
    /// Forgets a key everywhere.
    Remove { key: Vec<u8>, caller: Caller },
    /// Looks at the node from inside its thread: at its ring, its links, its counters.
    Inspect(Look),
    /// Leaves in good order.
    Stop,
    /// Dies on the spot.
    Kill,
}

/// Carries a command out, or begins to.
pub(crate) fn obey(core: &mut Core, exchange: &Exchange, stage: &mut Stage, command: Command) {
    let now = core.now();
    match command {
        Command::Get { key, patience, caller } => get(core, exchange, (&key, patience), caller),
        Command::Remove { key, caller } => {
            if let Err(refused) = core.node.remove(now, &exchange.hashed(&key), caller, &mut core.out) {
                let _left = refused.waiter.send(Done::Refused(refused.error));
            }
        }
        Command::Inspect(look) => look(&core.node),
        Command::Stop => {
            core.node.stop(now, &mut core.out);
            *stage = Stage::Leaving { until: now.saturating_add(DRAIN) };
        }
        Command::Kill => *stage = Stage::Killed,
    }
}

fn get(core: &mut Core, exchange: &Exchange, (key, patience): (&[u8], Duration), caller: Caller) {
    let now = core.now();
    let key = exchange.hashed(key);
    if let Some(answer) = core.node.get(now, &key) {
        let _left = caller.send(Done::Answered(answer));
        return;
    }
    let request = LoadRequest::new(key, caller, now.saturating_add(patience));
    match core.node.load(now, request, &mut core.out) {
        Ok(Load::Ready { answer, waiter }) => {
            let _left = waiter.send(Done::Answered(answer));
        }
        // Callers here may leave without a word: what they are sent goes nowhere. To take them back at once keep the ticket, for `cancel`.
        Ok(Load::Wait(_ticket)) => {}
        Err(refused) => {
            let _left = refused.waiter.send(Done::Answered(Err(refused.error.into())));
        }
    }
}
