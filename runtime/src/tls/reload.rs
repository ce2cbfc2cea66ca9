//! TLS whose certificates are read again when they change.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use groupcache_core::in_words;

use super::certificate::Validity;
use super::config::Contents;
use super::{Tls, TlsConfig, TlsConfigError};
use crate::rt::{BoxFuture, Connection, Runtime};
use crate::secure::{Accepted, Security};
use crate::thread::on_a_thread;

/// A certificate that has less than this part of its life left should have been replaced; at most [`AHEAD`] before its end.
const LAST_PART: u32 = 3;
const AHEAD: Duration = Duration::from_secs(14 * 24 * 3600);
/// How often that is said again: ahead of the end, and behind it.
const REMINDER: Duration = Duration::from_secs(12 * 3600);
const ALARM: Duration = Duration::from_secs(3600);

/// The least time between two looks at the files.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// [`Tls`] that is made again of files that have changed, without a restart: certificate, key and authorities, for new connections both ways.
/// Connections that are open live on, unless [`max_connection_age`](crate::ServerBuilder::max_connection_age) says otherwise. A clone is the same.
///
/// What is read is taken whole or not at all: a key that does not belong to its certificate, or half a file, changes nothing.
///
/// ```no_run
/// # use groupcache_runtime::{ReloadingTls, Runtime, TlsConfig};
/// # fn secured(runtime: std::sync::Arc<dyn Runtime>) -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let tls = ReloadingTls::new(|| TlsConfig::from_pem_files("ca.pem", "node.pem", "node.key"))?;
/// tls.watch(&runtime, Duration::from_secs(30)); // and tls.reload() for whoever cannot wait
/// // server builder: .security(Arc::new(tls))
/// # drop(Arc::new(tls));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReloadingTls(Arc<Shared>);

struct Shared {
    make: Box<dyn Fn() -> Result<TlsConfig, TlsConfigError> + Send + Sync>,
    current: RwLock<Arc<Current>>,
    told: Mutex<Told>,
}

/// What connections are made with.
struct Current {
    tls: Tls,
    contents: Contents,
}

/// What the log has been told, so that it is told once.
#[derive(Default)]
struct Told {
    /// What was wrong at the last look, and whether that was said.
    wrong: Option<(String, bool)>,
    /// When the end of the certificate was last mentioned.
    end: Option<SystemTime>,
}

impl fmt::Debug for ReloadingTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReloadingTls").field(&self.0.current().tls).finish()
    }
}

impl ReloadingTls {
    /// TLS with what `make` gives, now and each time that it is asked again: it should read the files anew.
    ///
    /// # Errors
    /// There is no TLS with what it gives now.
    pub fn new(
        make: impl Fn() -> Result<TlsConfig, TlsConfigError> + Send + Sync + 'static,
    ) -> Result<Self, TlsConfigError> {
        let current = RwLock::new(Arc::new(Current::of(make()?)?));
        Ok(Self(Arc::new(Shared { make: Box::new(make), current, told: Mutex::default() })))
    }

    /// Reads again, now. Whether something has changed. It blocks while it reads.
    ///
    /// # Errors
    /// There is no TLS with what was read: all goes on with what there was.
    pub fn reload(&self) -> Result<bool, TlsConfigError> {
        let changed = self.0.reload()?;
        self.0.told().wrong = None;
        Ok(changed)
    }

    /// From now on reads again each `interval`, as long as this lives, on a thread of its own: a file system may hang. The log says what has
    /// changed, what cannot be used and why, and that the certificate is about to expire. An interval below 50 ms counts as that.
    pub fn watch(&self, runtime: &Arc<dyn Runtime>, interval: Duration) {
        let (shared, rt) = (Arc::downgrade(&self.0), Arc::clone(runtime));
        runtime.spawn(Box::pin(async move {
            loop {
                let Some(()) = look(&shared).await else { return };
                rt.sleep(interval.max(MIN_INTERVAL)).await;
            }
        }));
    }

    fn tls(&self) -> Tls {
        self.0.current().tls.clone()
    }
}

/// `None` when nobody has any use for it any more.
async fn look(shared: &Weak<Shared>) -> Option<()> {
    let shared = shared.upgrade()?;
    let looking = Arc::clone(&shared);
    // A panic of `make` costs this look.
    let _ = on_a_thread("groupcache-tls", move || looking.look()).await;
    shared.remind(SystemTime::now());
    Some(())
}

impl Shared {
    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload(&self) -> Result<bool, TlsConfigError> {
        let config = (self.make)()?;
        if config.contents() == self.current().contents {
            return Ok(false);
        }
        let next = Arc::new(Current::of(config)?);
        let until = next.tls.expires();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        self.told().end = None;
        tracing::info!(
            days = until.map(days_until),
            "certificates were read anew: new connections have them"
        );
        Ok(true)
    }

    /// One look of [`watch`](ReloadingTls::watch).
    fn look(&self) {
        let wrong = self.reload().err().map(|error| in_words(&error).to_string());
        let mut told = self.told();
        let Some(wrong) = wrong else {
            told.wrong = None;
            return;
        };
        // Files are replaced one after the other: what is wrong for a moment is not worth a word.
        let again = told.wrong.take().filter(|(before, _)| *before == wrong);
        if let Some((_, false)) = again {
            tracing::warn!(error = %wrong, "certificates have changed and cannot be used: the ones of before stay in use");
        }
        told.wrong = Some((wrong, again.is_some()));
    }

    /// Says that the certificate is about to expire, or has.
    fn remind(&self, now: SystemTime) {
        let Some(validity) = self.current().tls.validity else { return };
        let mut told = self.told();
        let since = told.end.and_then(|told| now.duration_since(told).ok());
        match validity.left(now) {
            Left::Nothing if since.is_none_or(|since| since >= ALARM) => {
                tracing::error!(
                    "this node's certificate has expired: nobody who connects anew will trust it"
                );
            }
            Left::Little(left) if since.is_none_or(|since| since >= REMINDER) => {
                let (days, hours) = (left.as_secs() / 86_400, left.as_secs() / 3600 % 24);
                tracing::warn!(days, hours, "this node's certificate is about to expire: replace its file");
            }
            Left::Nothing | Left::Little(_) | Left::Enough => return,
        }
        told.end = Some(now);
    }
}

impl Current {
    fn of(config: TlsConfig) -> Result<Self, TlsConfigError> {
        let contents = config.contents();
        Ok(Self { tls: config.build()?, contents })
    }
}

/// How long a certificate is still good.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Enough,
    Little(Duration),
    Nothing,
}

impl Validity {
    fn left(&self, now: SystemTime) -> Left {
        let whole = self.until.duration_since(self.from).unwrap_or_default();
        match self.until.duration_since(now) {
            Err(_) => Left::Nothing,
            Ok(left) if left < (whole / LAST_PART).min(AHEAD) => Left::Little(left),
            Ok(_) => Left::Enough,
        }
    }
}

fn days_until(end: SystemTime) -> u64 {
    end.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / 86_400)
}

impl Security for ReloadingTls {
    fn connect<'a>(
        &'a self,
        addr: &'a str,
        io: Box<dyn Connection>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        let tls = self.tls();
        Box::pin(async move { tls.connect(addr, io).await })
    }

    fn accept(&self, io: Box<dyn Connection>) -> BoxFuture<'_, io::Result<Accepted>> {
        let tls = self.tls();
        Box::pin(async move { tls.accept(io).await })
    }

    fn expires(&self) -> Option<SystemTime> {
        self.tls().expires()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_worth_a_word_in_the_last_third_of_its_life_and_at_most_two_weeks_ahead() {
        let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        let left = |days: u64, at: u64| Validity { from: day(100), until: day(100 + days) }.left(day(at));
        assert_eq!(left(365, 100 + 365 - 15), Left::Enough);
        assert_eq!(left(365, 100 + 365 - 13), Left::Little(Duration::from_secs(13 * 86_400)));
        assert_eq!(left(3, 101), Left::Enough, "a short life is not all warnings");
        assert_eq!(left(3, 103), Left::Little(Duration::ZERO));
        assert_eq!(left(3, 104), Left::Nothing);
        assert_eq!(left(3, 0), Left::Enough, "a clock that is wrong");
    }
}
