//! Work that may hang: on a file system, or on a name server.

use std::thread;

use futures_channel::oneshot;

/// What `work` comes to, on a thread of its own, which no runtime has to wait for. `None`: there is no thread to be had, or it panicked.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, waited) = oneshot::channel();
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ = done.send(work()); // Whoever waited may have left.
    });
    match started {
        Ok(_) => waited.await.ok(),
        Err(error) => {
            tracing::warn!(%error, name, "there is no thread to be had");
            None
        }
    }
}
