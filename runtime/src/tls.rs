//! TLS by rustls, on any runtime: the [`Security`] that most want.

mod certificate;
mod config;
mod reload;
mod stream;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{AlertDescription, ClientConfig, CommonState, InvalidMessage, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::rt::{BoxFuture, Connection};
use crate::secure::{Accepted, Security, host_of};

use self::certificate::{Validity, identity};
use self::stream::Secured;

pub use config::{TlsConfig, TlsConfigError};
pub use reload::ReloadingTls;

/// HTTP/2's name in TLS.
const H2: &[u8] = b"h2";
/// HTTP/1.1's.
const HTTP1: &[u8] = b"http/1.1";

/// Secures connections with TLS 1.2 or 1.3. Made from a [`TlsConfig`], or from configurations of rustls itself.
///
/// The name that a member's certificate must carry is the host it is listed by, an IP address too, unless [`TlsConfig::server_name`] gives all
/// members a common one. A certificate is looked at when a connection is made, not again while it lives. Files that change are for
/// [`ReloadingTls`].
///
/// Who connects and shows a certificate is known by it: a removal is then taken only from who is a member by it, which is to say that it is for a
/// host of the ring, for the common name, or for one of the [allowed names](TlsConfig::allowed_names).
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use groupcache_runtime::{Tls, TlsConfig};
///
/// let tls: Tls = TlsConfig::from_pem_files("ca.pem", "node.pem", "node.key")?.build()?;
/// // server builder: .security(Arc::new(tls))
/// # drop(Arc::new(tls));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    acceptor: Option<TlsAcceptor>,
    /// What every certificate must be for, where that is not its member's host.
    name: Option<ServerName<'static>>,
    /// Whose certificate is for one of these is a member, whatever the ring has.
    allowed: Arc<[ServerName<'static>]>,
    /// When the own certificate is good.
    validity: Option<Validity>,
    protocol: &'static [u8],
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("accepts", &self.acceptor.is_some())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why a connection was not secured. It is the source of the [`io::Error`] that [`Security`] gives.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// What came is no TLS: the other side speaks plain text.
    #[error("the other side speaks plain text where TLS is spoken: all members must use TLS, or none")]
    PlainText(#[source] io::Error),
    /// The other side hung up.
    #[error(
        "the other side hung up before TLS was agreed on: does it speak TLS, and does it trust this node?"
    )]
    HungUp(#[source] io::Error),
    /// The other side does not accept this node's certificate, or wants one and got none.
    #[error("the other side does not trust this node")]
    Refused(#[source] io::Error),
    /// The other side shows no certificate, or one that is not to be trusted: of a foreign authority, expired, for another name.
    #[error("the other side cannot be trusted")]
    Untrusted(#[source] io::Error),
    /// TLS could not be agreed on for another reason.
    #[error("TLS could not be agreed on")]
    Handshake(#[source] io::Error),
    /// Whoever answers speaks TLS, but not HTTP/2 in it.
    #[error("the other side does not offer HTTP/2 (ALPN h2) within TLS")]
    NoHttp2,
    /// The address names no host that a certificate could be for.
    #[error("`{addr}` names no host that a certificate could be for")]
    Name {
        /// The address.
        addr: String,
        /// What is wrong with its host.
        source: InvalidDnsNameError,
    },
    /// This node has no certificate, so nobody can connect to it.
    #[error("this node has no certificate of its own: it can connect, and cannot be connected to")]
    NoCertificate,
}

impl Tls {
    /// TLS as rustls is configured to do it: verifiers, resolvers, key logs and whatever else it can are all yours, rotation of certificates among
    /// them. Where a configuration names no protocol (ALPN), HTTP/2 is added. Without `server` nobody can connect to this node: enough for etcd, which is only connected to.
    /// A `server` that lets in who shows no certificate lets them remove as well.
    #[must_use]
    pub fn new(mut client: Arc<ClientConfig>, server: Option<Arc<ServerConfig>>) -> Self {
        if client.alpn_protocols.is_empty() {
            Arc::make_mut(&mut client).alpn_protocols = vec![H2.to_vec()];
        }
        let acceptor = server.map(|mut server| {
            if server.alpn_protocols.is_empty() {
                Arc::make_mut(&mut server).alpn_protocols = vec![H2.to_vec()];
            }
            TlsAcceptor::from(server)
        });
        let connector = TlsConnector::from(client);
        Self { connector, acceptor, name: None, allowed: Arc::default(), validity: None, protocol: H2 }
    }

    fn speaking(self, protocol: &'static [u8]) -> Self {
        Self { protocol, ..self }
    }

    /// HTTP/2 has to be agreed on. Who says nothing speaks HTTP/1.1.
    fn speaks(&self, agreed: &CommonState) -> io::Result<()> {
        match agreed.alpn_protocol() {
            Some(protocol) if protocol == self.protocol => Ok(()),
            None if self.protocol == HTTP1 => Ok(()),
            _ => Err(TlsError::NoHttp2.into_io()),
        }
    }

    /// What the certificate of whoever answers at `addr` must be for.
    fn name_of(&self, addr: &str) -> Result<ServerName<'static>, TlsError> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        ServerName::try_from(host_of(addr).to_owned())
            .map_err(|source| TlsError::Name { addr: addr.to_owned(), source })
    }
}

impl Security for Tls {
    fn connect<'a>(
        &'a self,
        addr: &'a str,
        io: Box<dyn Connection>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            let name = self.name_of(addr).map_err(TlsError::into_io)?;
            let connecting = self.connector.connect(name, TokioIo::new(io));
            let stream = connecting.await.map_err(|error| TlsError::of(error).into_io())?;
            self.speaks(stream.get_ref().1)?;
            Ok(Box::new(Secured::new(stream)) as Box<dyn Connection>)
        })
    }

    fn accept(&self, io: Box<dyn Connection>) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async move {
            let acceptor = self.acceptor.as_ref().ok_or_else(|| TlsError::NoCertificate.into_io())?;
            let accepting = acceptor.accept(TokioIo::new(io));
            let stream = accepting.await.map_err(|error| TlsError::of(error).into_io())?;
            let agreed = stream.get_ref().1;
            self.speaks(agreed)?;
            let shown = agreed.peer_certificates().and_then(<[_]>::first);
            let identity = shown.map(|certificate| identity(certificate.clone().into_owned(), &self.allowed));
            let accepted = Accepted::from(Box::new(Secured::new(stream)) as Box<dyn Connection>);
            Ok(match identity {
                Some(identity) => accepted.by(identity),
                None => accepted,
            })
        })
    }

    fn expires(&self) -> Option<SystemTime> {
        self.validity.map(|validity| validity.until)
    }
}

impl TlsError {
    /// What rustls, or the connection under it, means to whoever runs a fleet.
    fn of(error: io::Error) -> Self {
        use rustls::Error as Tls;
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>());
        match cause {
            Some(Tls::InvalidMessage(InvalidMessage::InvalidContentType)) => Self::PlainText(error),
            Some(Tls::InvalidCertificate(_) | Tls::NoCertificatesPresented) => Self::Untrusted(error),
            Some(Tls::AlertReceived(alert)) if is_of_trust(*alert) => Self::Refused(error),
            Some(Tls::AlertReceived(AlertDescription::NoApplicationProtocol))
            | Some(Tls::NoApplicationProtocol) => Self::NoHttp2,
            Some(_) => Self::Handshake(error),
            None if is_hang_up(error.kind()) => Self::HungUp(error),
            None => Self::Handshake(error),
        }
    }

    fn into_io(self) -> io::Error {
        io::Error::other(self)
    }
}

const fn is_of_trust(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::NoCertificate
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::CertificateRequired
            // Signed by an authority of the same name with another key.
            | A::DecryptError
    )
}

const fn is_hang_up(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as K;
    matches!(kind, K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe)
}
