//! What a node needs for TLS: whom it trusts, and who it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::certificate::Validity;
use super::{H2, HTTP1, Tls};

/// What a node needs for TLS, in the usual case: the authorities whose certificates it trusts, and a certificate of its own. For anything more,
/// [`Tls::new`] takes rustls's own configurations.
#[derive(Debug)]
#[must_use = "a configuration does nothing before it is built"]
pub struct TlsConfig {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
    files: Files,
    mutual: bool,
    server_name: Option<String>,
    allowed_names: Vec<String>,
    protocol: &'static [u8],
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What was read from where, for errors.
#[derive(Clone, Debug, Default)]
struct Files {
    roots: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Files {
    fn of_roots(&self) -> String {
        self.roots.as_ref().map_or_else(String::new, |path| format!(" ({})", path.display()))
    }

    fn of_identity(&self) -> String {
        let paths = self.identity.as_ref();
        paths.map_or_else(String::new, |(chain, key)| format!(" ({} and {})", chain.display(), key.display()))
    }
}

/// Why there is no TLS with a configuration. All of it is for whoever configures the node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// A file cannot be read, or holds nothing of what is wanted of it.
    #[error("no {what} can be read from {}", path.display())]
    Pem {
        /// What was looked for in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Nobody would be trusted.
    #[error("no certificate of an authority was given: nobody would be trusted")]
    NoRoots,
    /// A certificate of an authority is none.
    #[error("a certificate of an authority cannot be used{files}")]
    Root {
        /// The file, where it was read from one.
        files: String,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The own certificate and key cannot be used: they do not belong together, or are of a kind that is not known.
    #[error("the certificate and the key of this node cannot be used{files}")]
    Identity {
        /// The files, where they were read from some.
        files: String,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// Certificates cannot be verified with these authorities.
    #[error("certificates cannot be verified with these authorities")]
    Verifier(#[from] VerifierBuilderError),
    /// The name that certificates are to be for is none.
    #[error("`{name}` is no name that a certificate could be for")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidDnsNameError,
    },
}

impl TlsConfig {
    /// Trusts what these authorities have signed, and nothing else: not the system's authorities either.
    pub fn new(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        Self {
            roots: roots.into_iter().collect(),
            identity: None,
            files: Files::default(),
            mutual: true,
            server_name: None,
            allowed_names: Vec::new(),
            protocol: H2,
        }
    }

    /// Reads the trusted authorities, this node's certificate with those between it and an authority, and its key (PKCS #8, PKCS #1 or SEC 1)
    /// from PEM files. The files are read now, and not again: [`ReloadingTls`](super::ReloadingTls) does that.
    ///
    /// # Errors
    /// [`TlsConfigError::Pem`] names the file that cannot be read or holds nothing of the kind.
    pub fn from_pem_files(
        roots: impl AsRef<Path>,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsConfigError> {
        Self::from_pem_roots(roots)?.pem_identity(chain, key)
    }

    /// Reads the trusted authorities from a PEM file. Without an [`identity`](Self::identity) the result only connects: to an etcd that asks for no
    /// certificate, say.
    ///
    /// # Errors
    /// [`TlsConfigError::Pem`].
    pub fn from_pem_roots(roots: impl AsRef<Path>) -> Result<Self, TlsConfigError> {
        let mut config = Self::new(certificates(roots.as_ref())?);
        config.files.roots = Some(roots.as_ref().to_owned());
        Ok(config)
    }

    /// Reads this node's [`identity`](Self::identity) from PEM files.
    ///
    /// # Errors
    /// [`TlsConfigError::Pem`].
    pub fn pem_identity(
        self,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsConfigError> {
        let (chain, key) = (chain.as_ref(), key.as_ref());
        let certificates = certificates(chain)?;
        let failed = |source| TlsConfigError::Pem { what: "private key", path: key.to_owned(), source };
        let secret = PrivateKeyDer::from_pem_file(key).map_err(failed)?;
        let mut config = self.identity(certificates, secret);
        config.files.identity = Some((chain.to_owned(), key.to_owned()));
        Ok(config)
    }

    /// This node's certificate, followed by those between it and an authority, and its key. It is shown to whoever connects, and to whoever asks for
    /// it when connected to: so it must be good for both ends, where it restricts that at all.
    pub fn identity(mut self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        self.identity = Some((chain, key));
        self
    }

    /// Whether whoever connects must show a certificate of a trusted authority. Default: yes. Without it anybody who reaches the port can read
    /// and remove what is cached.
    pub const fn mutual(mut self, mutual: bool) -> Self {
        self.mutual = mutual;
        self
    }

    /// The name that every member's certificate is for, in place of the host that the member is listed by. Lets one certificate serve a whole
    /// fleet whose addresses come and go.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Who may remove beside the members of the ring: whose certificate is for one of these names or IP addresses. The common
    /// [`server_name`](Self::server_name) is one of them. Counts where the connection is [`mutual`](Self::mutual).
    pub fn allowed_names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed_names = names.into_iter().map(Into::into).collect();
        self
    }

    /// For a side that speaks HTTP/1.1, and not for peers: that is what is offered (ALPN `http/1.1`), and who negotiates nothing is taken as well.
    pub fn for_http1(mut self) -> Self {
        self.protocol = HTTP1;
        self
    }

    /// Names what makes one configuration different from another, of what can be read from files.
    pub(super) fn contents(&self) -> Contents {
        let (chain, key) = self
            .identity
            .as_ref()
            .map_or_else(Default::default, |(chain, key)| (chain.clone(), Some(key.clone_key())));
        Contents { roots: self.roots.clone(), chain, key }
    }

    /// Makes TLS of it.
    ///
    /// # Errors
    /// What cannot be used, and why.
    pub fn build(self) -> Result<Tls, TlsConfigError> {
        if self.roots.is_empty() {
            return Err(TlsConfigError::NoRoots);
        }
        let mut roots = RootCertStore::empty();
        for root in self.roots {
            let unusable = |source| TlsConfigError::Root { files: self.files.of_roots(), source };
            roots.add(root).map_err(unusable)?;
        }
        let roots = Arc::new(roots);
        // Named, so that no default of the process has to be set, and none that is set matters.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let name = self.server_name.map(name_of).transpose()?;
        let allowed = self.allowed_names.into_iter().map(name_of);
        let allowed = name.clone().map(Ok).into_iter().chain(allowed).collect::<Result<_, _>>()?;
        let unusable = |source| TlsConfigError::Identity { files: self.files.of_identity(), source };
        let mut client = client(&provider, &roots, self.identity.as_ref(), unusable)?;
        client.alpn_protocols = vec![self.protocol.to_vec()];
        let validity = self.identity.as_ref().and_then(|(chain, _)| Validity::of(chain.first()?));
        let server = self.identity.map(|identity| server(&provider, &roots, self.mutual, identity, unusable));
        let server = server.transpose()?.map(|mut server| {
            server.alpn_protocols = vec![self.protocol.to_vec()];
            Arc::new(server)
        });
        Ok(Tls { name, allowed, validity, ..Tls::new(Arc::new(client), server).speaking(self.protocol) })
    }
}

/// What a configuration is made of.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    roots: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    identity: Option<&Identity>,
    unusable: impl Fn(rustls::Error) -> TlsConfigError + Copy,
) -> Result<ClientConfig, TlsConfigError> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider)).build()?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_webpki_verifier(verifier);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(unusable),
    }
}

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    mutual: bool,
    (chain, key): Identity,
    unusable: impl Fn(rustls::Error) -> TlsConfigError + Copy,
) -> Result<ServerConfig, TlsConfigError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = if mutual {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider)).build()?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    builder.with_single_cert(chain, key).map_err(unusable)
}

fn name_of(name: String) -> Result<ServerName<'static>, TlsConfigError> {
    ServerName::try_from(name.clone()).map_err(|source| TlsConfigError::Name { name, source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let failed = |source| TlsConfigError::Pem { what: "certificate", path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(failed)?;
    if certificates.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(certificates) }
}
