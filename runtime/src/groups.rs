//! The groups of a node: names for callers and the wire, numbers for the core.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError};

use groupcache_core::GroupId;

use crate::engine::lock;
use crate::meter::GroupMeter;
use crate::retriever::Retriever;
use crate::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// One group: its name, and where its values come from.
pub(crate) struct GroupEntry {
    pub(crate) id: GroupId,
    pub(crate) name: Arc<str>,
    pub(crate) retriever: Arc<dyn Retriever>,
    pub(crate) meter: GroupMeter,
}

impl fmt::Debug for GroupEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupEntry").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The table of groups. Numbers are never reused for another name: a group made again under its old name gets its old number.
///
/// A group is in the table once all shards know it, and leaves the table before any of them forgets it: who finds it, finds it whole.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    table: RwLock<Table>,
    /// Held while a group is made or destroyed, so that shards and table change in one order. Taken before the table's lock and the shards' ones.
    changes: Mutex<()>,
}

#[derive(Debug, Default)]
struct Table {
    live: HashMap<Arc<str>, Arc<GroupEntry>>,
    /// By number; `None` where the group was destroyed.
    by_id: Vec<Option<Arc<GroupEntry>>>,
    ids: HashMap<Arc<str>, GroupId>,
}

impl Groups {
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<GroupEntry>> {
        self.read().live.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: GroupId) -> Option<Arc<GroupEntry>> {
        self.read().by_id.get(id.index() as usize)?.clone()
    }

    /// All groups, by name.
    pub(crate) fn all(&self) -> Vec<Arc<GroupEntry>> {
        let mut all: Vec<_> = self.read().live.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.read().live.keys().cloned().collect();
        names.sort();
        names
    }

    /// Adds a group, which `install` makes known to the shards; `None` when there is one of that name.
    ///
    /// # Errors
    /// Those of `install`: nothing has changed.
    pub(crate) fn add<E>(
        &self,
        name: &str,
        retriever: Arc<dyn Retriever>,
        install: impl FnOnce(GroupId) -> Result<(), E>,
    ) -> Result<Option<Arc<GroupEntry>>, E> {
        let _changing = lock(&self.changes);
        let (name, id) = {
            let mut table = self.write();
            if table.live.contains_key(name) {
                return Ok(None);
            }
            table.number(name)
        };
        install(id)?;
        let entry =
            Arc::new(GroupEntry { id, name: Arc::clone(&name), retriever, meter: GroupMeter::default() });
        let mut table = self.write();
        table.by_id[id.index() as usize] = Some(Arc::clone(&entry));
        table.live.insert(name, Arc::clone(&entry));
        Ok(Some(entry))
    }

    /// Takes a group out of the table, and then by `uninstall` out of the shards. `false`: there is none.
    pub(crate) fn remove(&self, name: &str, uninstall: impl FnOnce(GroupId)) -> bool {
        let changing = lock(&self.changes);
        let Some(entry) = self.write().take(name) else { return false };
        uninstall(entry.id);
        // The entry may be the last to hold the retriever, whose drop is not ours to run under a lock.
        drop(changing);
        true
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The number of `name`, given out now where it never had one.
    fn number(&mut self, name: &str) -> (Arc<str>, GroupId) {
        if let Some((name, &id)) = self.ids.get_key_value(name) {
            return (Arc::clone(name), id);
        }
        let (name, id) = (Arc::<str>::from(name), GroupId::new(self.by_id.len() as u32));
        self.by_id.push(None);
        self.ids.insert(Arc::clone(&name), id);
        (name, id)
    }

    fn take(&mut self, name: &str) -> Option<Arc<GroupEntry>> {
        let entry = self.live.remove(name)?;
        self.by_id[entry.id.index() as usize] = None;
        Some(entry)
    }
}
