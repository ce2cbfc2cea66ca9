//! The groups of a node: names for callers and the wire, numbers for the core.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use groupcache_core::GroupId;

use crate::retriever::Retriever;

/// One group: its name, and where its values come from.
pub(crate) struct GroupEntry {
    pub(crate) id: GroupId,
    pub(crate) name: Arc<str>,
    pub(crate) retriever: Arc<dyn Retriever>,
}

impl fmt::Debug for GroupEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupEntry").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The table of groups. Numbers are never reused for another name: a group made again under its old name gets its old number.
#[derive(Debug, Default)]
pub(crate) struct Groups(RwLock<Table>);

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

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.read().live.keys().cloned().collect();
        names.sort();
        names
    }

    /// Adds a group; `None` when there is one of that name.
    pub(crate) fn add(&self, name: &str, retriever: Arc<dyn Retriever>) -> Option<Arc<GroupEntry>> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.live.contains_key(name) {
            return None;
        }
        let name: Arc<str> = name.into();
        let id = match table.ids.get(&name) {
            Some(&id) => id,
            None => {
                let id = GroupId::new(table.by_id.len() as u32);
                table.by_id.push(None);
                table.ids.insert(Arc::clone(&name), id);
                id
            }
        };
        let entry = Arc::new(GroupEntry { id, name: Arc::clone(&name), retriever });
        table.by_id[id.index() as usize] = Some(Arc::clone(&entry));
        table.live.insert(name, Arc::clone(&entry));
        Some(entry)
    }

    pub(crate) fn remove(&self, name: &str) -> Option<Arc<GroupEntry>> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let entry = table.live.remove(name)?;
        table.by_id[entry.id.index() as usize] = None;
        Some(entry)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
