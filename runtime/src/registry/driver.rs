//! Carries out what membership asks of a registry: three tasks, one for each thing that runs beside the others.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_channel::mpsc;
use futures_util::future::{Either, FutureExt, select};
use futures_util::stream::StreamExt;
use groupcache_core::{Cause, OpId, RegistryIntent, RegistryOutcome, Revision, WatchEvent};

use super::{KeepAlive, Registration, Registry, RegistryError};
use crate::rt::Runtime;
use crate::sync::Mutex;

/// Who is told what became of the intents. Called from the driver's tasks, with no lock held.
pub(crate) trait RegistryEvents: Send + Sync + 'static {
    /// For [`Membership::handle_registry`](groupcache_core::Membership::handle_registry).
    fn registry(&self, op: OpId, outcome: RegistryOutcome);
    /// For [`Membership::handle_watch`](groupcache_core::Membership::handle_watch).
    fn watch(&self, op: OpId, event: WatchEvent);
}

/// Executes [`RegistryIntent`]s. Dropping it ends its tasks; so does dropping who listens.
///
/// Lease operations run one after the other, so a `Deregister` follows upon a `Register` that is under way and never passes it. Each is given up
/// when `op_timeout` has passed since it was asked for.
#[derive(Debug)]
pub(crate) struct RegistryDriver {
    lease: Queue<Asked>,
    list: Queue<Asked>,
    watch: Queue<WatchCommand>,
    op_timeout: Duration,
}

/// The sending end of a bounded queue. One sender for all callers: each clone of an mpsc sender has a place of its own, beyond the bound.
type Queue<T> = Mutex<mpsc::Sender<T>>;

/// Membership has at most two lease operations and one list under way; the rest is slack for those that it gave up.
const QUEUE: usize = 8;

#[derive(Debug)]
struct Asked {
    intent: RegistryIntent,
    deadline: Instant,
}

#[derive(Debug)]
enum WatchCommand {
    Open { op: OpId, after: Revision },
    Close,
}

impl RegistryDriver {
    /// Spawns the tasks. `op_timeout` should be membership's own, or a little less.
    pub(crate) fn spawn(
        registry: Arc<dyn Registry>,
        runtime: &Arc<dyn Runtime>,
        me: Registration,
        op_timeout: Duration,
        events: Weak<dyn RegistryEvents>,
    ) -> Self {
        let worker = Worker { registry, runtime: Arc::clone(runtime), me, op_timeout, events };
        let (lease, lease_asked) = mpsc::channel(QUEUE);
        let (list, list_asked) = mpsc::channel(QUEUE);
        let (watch, watch_asked) = mpsc::channel(QUEUE);
        runtime.spawn(Box::pin(worker.clone().answer_calls(lease_asked)));
        runtime.spawn(Box::pin(worker.clone().answer_calls(list_asked)));
        runtime.spawn(Box::pin(worker.keep_watch(watch_asked)));
        Self { lease: Mutex::new(lease), list: Mutex::new(list), watch: Mutex::new(watch), op_timeout }
    }

    /// Takes an intent, and returns at once. One that finds no room is dropped: membership asks again when its time has run out.
    pub(crate) fn execute(&self, intent: RegistryIntent) {
        let taken = match intent {
            RegistryIntent::Watch { op, after } => self.tell_watch(WatchCommand::Open { op, after }),
            RegistryIntent::List { .. } => self.ask(&self.list, intent),
            RegistryIntent::Register { .. } | RegistryIntent::KeepAlive { .. } => {
                self.ask(&self.lease, intent)
            }
            RegistryIntent::Deregister { .. } => {
                // Membership takes nothing more from the watch once it leaves.
                self.tell_watch(WatchCommand::Close) & self.ask(&self.lease, intent)
            }
        };
        if !taken {
            tracing::warn!("too many registry operations are under way: one is dropped");
        }
    }

    fn ask(&self, queue: &Queue<Asked>, intent: RegistryIntent) -> bool {
        send(queue, Asked { intent, deadline: Instant::now() + self.op_timeout })
    }

    fn tell_watch(&self, command: WatchCommand) -> bool {
        send(&self.watch, command)
    }
}

fn send<T>(queue: &Queue<T>, item: T) -> bool {
    queue.lock().unwrap_or_else(PoisonError::into_inner).try_send(item).is_ok()
}

#[derive(Clone)]
struct Worker {
    registry: Arc<dyn Registry>,
    runtime: Arc<dyn Runtime>,
    me: Registration,
    op_timeout: Duration,
    events: Weak<dyn RegistryEvents>,
}

impl Worker {
    async fn answer_calls(self, mut asked: mpsc::Receiver<Asked>) {
        while let Some(Asked { intent, deadline }) = asked.next().await {
            let (op, operation) = describe(&intent);
            let limit = deadline.saturating_duration_since(Instant::now());
            let outcome = match self.limited(operation, limit, self.call(intent)).await {
                Ok(outcome) => outcome,
                Err(error) => RegistryOutcome::Failed(Some(report(error))),
            };
            let Some(events) = self.events.upgrade() else { return };
            events.registry(op, outcome);
        }
    }

    async fn call(&self, intent: RegistryIntent) -> Result<RegistryOutcome, RegistryError> {
        Ok(match intent {
            RegistryIntent::Register { ttl, .. } => {
                let granted = self.registry.register(&self.me, ttl).await?;
                RegistryOutcome::Registered { lease: granted.lease, ttl: granted.ttl }
            }
            RegistryIntent::KeepAlive { lease, .. } => match self.registry.keep_alive(lease).await? {
                KeepAlive::Alive { ttl } => RegistryOutcome::KeptAlive { ttl },
                KeepAlive::Lost => RegistryOutcome::LeaseLost,
            },
            RegistryIntent::Deregister { lease, .. } => {
                self.registry.deregister(&self.me.addr, lease).await?;
                RegistryOutcome::Deregistered
            }
            RegistryIntent::List { .. } => {
                let listing = self.registry.list().await?;
                RegistryOutcome::Listed { records: listing.records, revision: listing.revision }
            }
            // Watches have a task of their own, which does not come here.
            RegistryIntent::Watch { .. } => RegistryOutcome::Failed(None),
        })
    }

    /// One watch at a time: the next command ends the one before.
    async fn keep_watch(self, mut commands: mpsc::Receiver<WatchCommand>) {
        let mut next = commands.next().await;
        while let Some(command) = next {
            next = match command {
                WatchCommand::Close => commands.next().await,
                WatchCommand::Open { op, after } => {
                    let followed = pin!(self.follow(op, after));
                    match select(commands.next(), followed).await {
                        Either::Left((command, _)) => command,
                        Either::Right((true, command)) => command.await,
                        Either::Right((false, _)) => return,
                    }
                }
            };
        }
    }

    /// Passes on what the watch brings, up to its end. Answers whether somebody still listens.
    async fn follow(&self, op: OpId, after: Revision) -> bool {
        let pass_on = async {
            let opened = self.limited("watch", self.op_timeout, self.registry.watch(after)).await;
            let mut stream = match opened {
                Ok(stream) => stream,
                Err(error) => return self.tell(op, WatchEvent::Ended(Some(report(error)))),
            };
            while let Some(event) = stream.next().await {
                let over = !matches!(event, WatchEvent::Changed { .. });
                let heard = self.tell(op, event);
                if over || !heard {
                    return heard;
                }
            }
            self.tell(op, WatchEvent::Ended(None))
        };
        match AssertUnwindSafe(pass_on).catch_unwind().await {
            Ok(heard) => heard,
            Err(_) => {
                let cause = report(RegistryError::Panicked { operation: "watch" });
                self.tell(op, WatchEvent::Ended(Some(cause)))
            }
        }
    }

    fn tell(&self, op: OpId, event: WatchEvent) -> bool {
        let Some(events) = self.events.upgrade() else { return false };
        events.watch(op, event);
        true
    }

    /// Gives `call` up after `limit`, and turns a panic of the registry's code into an error: the task has to live on.
    async fn limited<T>(
        &self,
        operation: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let call = pin!(AssertUnwindSafe(call).catch_unwind());
        match select(call, self.runtime.sleep(limit)).await {
            Either::Left((Ok(result), _)) => result,
            Either::Left((Err(_), _)) => Err(RegistryError::Panicked { operation }),
            Either::Right(((), _)) => Err(RegistryError::TimedOut { operation, limit }),
        }
    }
}

const fn describe(intent: &RegistryIntent) -> (OpId, &'static str) {
    match intent {
        RegistryIntent::Register { op, .. } => (*op, "register"),
        RegistryIntent::KeepAlive { op, .. } => (*op, "keep-alive"),
        RegistryIntent::Deregister { op, .. } => (*op, "deregister"),
        RegistryIntent::List { op } => (*op, "list"),
        RegistryIntent::Watch { op, .. } => (*op, "watch"),
    }
}

fn report(error: RegistryError) -> Cause {
    tracing::warn!(error = &error as &(dyn std::error::Error + 'static), "registry");
    Arc::new(error)
}
