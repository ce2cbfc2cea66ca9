//! The two runtimes, as measurements use them.

use std::future::Future;
use std::sync::OnceLock;

use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};

/// What askers and servers run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Tokio,
    AsyncStd,
}

impl Host {
    pub(crate) const ALL: [Self; 2] = [Self::Tokio, Self::AsyncStd];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::AsyncStd => "async-std",
        }
    }

    pub(crate) fn block_on<T>(self, task: impl Future<Output = T>) -> T {
        match self {
            Self::Tokio => tokio().block_on(task),
            Self::AsyncStd => async_std::task::block_on(task),
        }
    }

    pub(crate) fn spawn<T: Send + 'static>(
        self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        match self {
            Self::Tokio => {
                let task = tokio().spawn(task);
                Box::pin(async move { task.await.expect("a task that does not panic") })
            }
            Self::AsyncStd => Box::pin(async_std::task::spawn(task)),
        }
    }
}

/// tokio as `#[tokio::main]` has it: as many workers as there are cores.
pub(crate) fn tokio() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().enable_all().build().expect("a runtime of tokio"))
}
