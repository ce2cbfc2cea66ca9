//! Who has made a connection to this node, and what they may do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tonic::Status;

use super::handler::PeerService;
use crate::secure::PeerIdentity;
use crate::tokens::{Access, Tokens};

/// Whoever has connected.
pub(super) struct Caller {
    from: SocketAddr,
    identity: Option<PeerIdentity>,
    /// The fingerprint of the ring that this is known to be a member of: it is looked for once a ring, not once a call. 0 for none.
    member_of: AtomicU64,
    /// One line in the log is enough for a connection, however many calls are refused.
    told: AtomicBool,
}

impl Caller {
    pub(super) const fn new(from: SocketAddr, identity: Option<PeerIdentity>) -> Self {
        Self { from, identity, member_of: AtomicU64::new(0), told: AtomicBool::new(false) }
    }

    /// # Errors
    /// UNAUTHENTICATED: the call does not have a token that it needs.
    pub(super) fn admit(&self, tokens: &Tokens, access: Access, headers: &HeaderMap) -> Result<(), Status> {
        let sent = headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
        tokens.admit(access, sent).map_err(|refused| {
            if self.is_first() {
                tracing::warn!(from = %self.from, who = self.who(), reason = %refused, "refused a caller");
            }
            Status::unauthenticated(refused.to_string())
        })
    }

    /// # Errors
    /// PERMISSION_DENIED: it is known who calls, and that is no member.
    pub(super) fn may_remove(&self, service: &dyn PeerService) -> Result<(), Status> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let ring = service.fingerprint();
        if ring != 0 && self.member_of.load(Ordering::Relaxed) == ring {
            return Ok(());
        }
        if service.is_member(identity) {
            self.member_of.store(ring, Ordering::Relaxed);
            return Ok(());
        }
        if self.is_first() {
            tracing::warn!(from = %self.from, who = self.who(), "refused a removal: it does not come from a member");
        }
        Err(Status::permission_denied(format!(
            "only members remove, and {identity} is none: its certificate must be for the host of a member on this \
             node's ring, for the common server name, or for a name that is allowed to (groupcache: --tls-allowed-names)"
        )))
    }

    fn is_first(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    fn who(&self) -> String {
        self.identity.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string)
    }
}
