//! TLS by rustls, on any runtime: the [`Security`] that most want.

mod config;
mod stream;

use std::fmt;
use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{AlertDescription, ClientConfig, CommonState, InvalidMessage, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::rt::{BoxFuture, Connection};
use crate::secure::Security;

use self::stream::Secured;

pub use config::{TlsConfig, TlsConfigError};

/// HTTP/2's name in TLS.
const H2: &[u8] = b"h2";

/// Secures connections with TLS 1.2 or 1.3. Made from a [`TlsConfig`], or from configurations of rustls itself.
///
/// The name that a member's certificate must carry is the host it is listed by, an IP address too, unless [`TlsConfig::server_name`] gives all
/// members a common one. A certificate is looked at when a connection is made, not again while it lives.
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
        Self { connector: TlsConnector::from(client), acceptor, name: None }
    }

    fn named(self, name: Option<ServerName<'static>>) -> Self {
        Self { name, ..self }
    }

    /// What the certificate of whoever answers at `addr` must be for.
    fn name_of(&self, addr: &str) -> Result<ServerName<'static>, TlsError> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        ServerName::try_from(host.to_owned())
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
            speaks_http2(stream.get_ref().1)?;
            Ok(Box::new(Secured::new(stream)) as Box<dyn Connection>)
        })
    }

    fn accept(&self, io: Box<dyn Connection>) -> BoxFuture<'_, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            let acceptor = self.acceptor.as_ref().ok_or_else(|| TlsError::NoCertificate.into_io())?;
            let accepting = acceptor.accept(TokioIo::new(io));
            let stream = accepting.await.map_err(|error| TlsError::of(error).into_io())?;
            speaks_http2(stream.get_ref().1)?;
            Ok(Box::new(Secured::new(stream)) as Box<dyn Connection>)
        })
    }
}

fn speaks_http2(agreed: &CommonState) -> io::Result<()> {
    match agreed.alpn_protocol() {
        Some(H2) => Ok(()),
        _ => Err(TlsError::NoHttp2.into_io()),
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
