//! Where the suite's values come from: a function of the test, with every call counted by node and key.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_std::task::sleep;
use async_trait::async_trait;
use groupcache_runtime::{ByteView, Loaded, RetrieveError, Retriever, Revalidated};

use super::nodes::Kind;

/// What a load comes to.
pub(super) type Answer = Result<Loaded, RetrieveError>;

/// One call of a retriever.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) key: String,
    /// How many loads of the key, at any node, came before.
    pub(super) before: usize,
}

type Body = dyn Fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// The origin of a fleet.
#[derive(Clone)]
pub(super) struct Origin {
    body: Arc<Body>,
    /// Says that a value with this metadata has not changed, once the gate is open.
    unchanged: Option<(&'static [u8], Gate)>,
    counts: Arc<Mutex<HashMap<(usize, String), usize>>>,
    ends: Arc<Ends>,
}

#[derive(Debug, Default)]
struct Ends {
    finished: AtomicUsize,
    dropped: AtomicUsize,
    revalidations: AtomicUsize,
}

/// A retriever of one node that revalidates.
pub(super) struct Revalidating {
    pub(super) origin: Origin,
    pub(super) node: usize,
    pub(super) kind: Kind,
}

#[async_trait]
impl Retriever for Revalidating {
    async fn retrieve(&self, key: &str) -> Answer {
        self.origin.clone().load(self.node, self.kind, key.to_owned()).await
    }

    async fn revalidate(&self, key: &str, stale: &ByteView) -> Result<Revalidated, RetrieveError> {
        self.origin.ends.revalidations.fetch_add(1, Ordering::SeqCst);
        match &self.origin.unchanged {
            Some((meta, gate)) if *meta == stale.meta() => {
                gate.passed().await;
                Ok(Revalidated::Unchanged { ttl: None })
            }
            _ => self.retrieve(key).await.map(Revalidated::Changed),
        }
    }
}

impl Origin {
    pub(super) fn new<F, Fut>(body: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let body =
            Arc::new(move |call| -> Pin<Box<dyn Future<Output = Answer> + Send>> { Box::pin(body(call)) });
        Self { body, unchanged: None, counts: Arc::default(), ends: Arc::default() }
    }

    /// An origin that has a value for every key: [`value_of`].
    pub(super) fn plain() -> Self {
        Self::new(|call| async move { Ok(value_of(&call.key).into()) })
    }

    /// This origin, which says of values with this metadata that they have not changed, when `gate` is open.
    pub(super) fn that_keeps(mut self, meta: &'static [u8], gate: &Gate) -> Self {
        self.unchanged = Some((meta, gate.clone()));
        self
    }

    pub(super) const fn revalidates(&self) -> bool {
        self.unchanged.is_some()
    }

    pub(super) async fn load(self, node: usize, kind: Kind, key: String) -> Answer {
        let at_home = kind.is_at_home();
        let before = self.loads_of(&key);
        *self.lock().entry((node, key.clone())).or_default() += 1;
        let mut end = Ended { ends: Arc::clone(&self.ends), finished: false };
        let answer = (self.body)(Call { key, before }).await;
        end.finished = true;
        if !(at_home && kind.is_at_home()) {
            return Err(RetrieveError::failed(format!("a retriever of a node on {kind:?} runs elsewhere")));
        }
        answer
    }

    /// How often it was asked whether a value has changed.
    pub(super) fn revalidations(&self) -> usize {
        self.ends.revalidations.load(Ordering::SeqCst)
    }

    /// Loads of all keys at all nodes.
    pub(super) fn loads(&self) -> usize {
        self.lock().values().sum()
    }

    /// Loads of `key` at all nodes.
    pub(super) fn loads_of(&self, key: &str) -> usize {
        self.lock().iter().filter(|((_, of), _)| of == key).map(|(_, count)| count).sum()
    }

    /// Loads of `key` at one node.
    pub(super) fn loads_at(&self, node: usize, key: &str) -> usize {
        self.lock().get(&(node, key.to_owned())).copied().unwrap_or(0)
    }

    /// Loads that came to an end of their own.
    pub(super) fn finished(&self) -> usize {
        self.ends.finished.load(Ordering::SeqCst)
    }

    /// Loads that were dropped or panicked before.
    pub(super) fn dropped(&self) -> usize {
        self.ends.dropped.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(usize, String), usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An origin that answers nothing before `gate` is open.
pub(super) fn behind(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::new(move |call| {
        let gate = gate.clone();
        async move {
            gate.passed().await;
            Ok(value_of(&call.key).into())
        }
    })
}

/// The value of `key` unless a test says otherwise.
pub(super) fn value_of(key: &str) -> String {
    format!("value of {key}")
}

/// Counts how a load ended.
struct Ended {
    ends: Arc<Ends>,
    finished: bool,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let count = if self.finished { &self.ends.finished } else { &self.ends.dropped };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Something that is shut until the test opens it.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<AtomicBool>);

impl Gate {
    pub(super) fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn shut(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until it is open. async-std's timers need no runtime, so this works on nodes of both.
    pub(super) async fn passed(&self) {
        while !self.is_open() {
            sleep(Duration::from_millis(2)).await;
        }
    }
}
