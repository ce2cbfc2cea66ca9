//! Where a connection is secured, before HTTP/2 runs over it: nowhere, unless the embedder says how.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt;

use crate::rt::{BoxFuture, Connection};

/// How connections are secured: TLS, or whatever else two members agree on. Every member of a fleet must do the same, or none.
///
/// `Tls`, with feature `tls`, is the one that most want. A node asks for it once a connection, not once a call; what comes back is what HTTP/2 runs
/// over, so it must negotiate that where it negotiates protocols (ALPN `h2`). Both calls are bounded by the node: a future that takes too long
/// is dropped, and a panic counts as a refusal.
pub trait Security: fmt::Debug + Send + Sync + 'static {
    /// Secures a connection that this node has made to `addr` (`host:port`, as in the list of members), and makes sure that it is the one who
    /// answers.
    ///
    /// # Errors
    /// Who answers cannot be trusted, does not trust this node, or does not speak the same. The text goes into a log line.
    fn connect<'a>(
        &'a self,
        addr: &'a str,
        io: Box<dyn Connection>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Connection>>>;

    /// Secures a connection that somebody has made to this node, and says who that is where it knows: `Ok(io.into())` is nobody in particular.
    ///
    /// # Errors
    /// Who asks cannot be trusted, or does not speak the same. The text goes into a log line.
    fn accept(&self, io: Box<dyn Connection>) -> BoxFuture<'_, io::Result<Accepted>>;

    /// Until when what this node shows to others is good, where that ends: for metrics. None unless said otherwise.
    fn expires(&self) -> Option<SystemTime> {
        None
    }
}

/// A connection that somebody has made to this node, once it is secured.
#[non_exhaustive]
pub struct Accepted {
    /// What HTTP/2 runs over.
    pub io: Box<dyn Connection>,
    /// Who has connected. Without it nobody is asked who they are, and whoever was let in may do everything that members do.
    pub identity: Option<PeerIdentity>,
}

impl Accepted {
    /// The same connection, of somebody who is known.
    #[must_use]
    pub fn by(self, identity: PeerIdentity) -> Self {
        Self { identity: Some(identity), ..self }
    }
}

impl From<Box<dyn Connection>> for Accepted {
    fn from(io: Box<dyn Connection>) -> Self {
        Self { io, identity: None }
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Who has connected to this node, as its security has made sure.
///
/// Anybody who is let in may read. What changes a member, a removal or a flush, is taken from members only: from who
/// [is one](Self::member), or is good for the host of one on this node's ring.
pub struct PeerIdentity {
    who: String,
    is_for: Box<dyn Fn(&str) -> bool + Send + Sync>,
    member: bool,
}

impl PeerIdentity {
    /// `who`, for log lines, and whether that is good for a host: a name or an IP address, as members are listed by.
    pub fn new(who: impl Into<String>, is_for: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { who: who.into(), is_for: Box::new(is_for), member: false }
    }

    /// Whether the security itself says that this is a member, whatever the ring has.
    #[must_use]
    pub fn member(self, member: bool) -> Self {
        Self { member, ..self }
    }

    /// Whether this is a member of a ring with members at these `host:port`.
    pub(crate) fn is_one_of<'a>(&self, mut addrs: impl Iterator<Item = &'a str>) -> bool {
        self.member || addrs.any(|addr| (self.is_for)(host_of(addr)))
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.who)
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerIdentity")
            .field("who", &self.who)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

/// The host of `host:port`; an IPv6 address without its brackets.
pub(crate) fn host_of(addr: &str) -> &str {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// [`Security::connect`], where there is a security.
pub(crate) async fn connect(
    security: Option<&Arc<dyn Security>>,
    addr: &str,
    io: Box<dyn Connection>,
) -> io::Result<Box<dyn Connection>> {
    match security {
        None => Ok(io),
        Some(security) => caught(async { security.connect(addr, io).await }).await,
    }
}

/// [`Security::accept`].
pub(crate) async fn accept(security: &Arc<dyn Security>, io: Box<dyn Connection>) -> io::Result<Accepted> {
    caught(async { security.accept(io).await }).await
}

/// Bears a panic: whoever dials must hear that the dial has failed, or nobody would dial again.
async fn caught<T>(securing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let ended = AssertUnwindSafe(securing).catch_unwind().await;
    ended.unwrap_or_else(|_| Err(io::Error::other("the code that secures connections panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_who_is_good_for_the_host_of_one_or_is_said_to_be_one() {
        let ring = ["10.0.0.1:6324", "[::1]:6324", "c.test:1"];
        let is_one = |host: &'static str| {
            PeerIdentity::new("somebody", move |asked| asked == host).is_one_of(ring.into_iter())
        };
        assert!(is_one("10.0.0.1") && is_one("::1") && is_one("c.test"));
        assert!(!is_one("10.0.0.2") && !is_one("c.test:1") && !is_one(""));
        assert!(PeerIdentity::new("an operator", |_| false).member(true).is_one_of(ring.into_iter()));
    }
}
