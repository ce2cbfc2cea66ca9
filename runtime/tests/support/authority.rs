//! A certificate authority for one test, and members' certificates by it.

use std::path::Path;
use std::sync::Arc;

use groupcache_runtime::{Tls, TlsConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

/// Signs what it is asked to.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name`, good until long after this test.
    pub(crate) fn sign(&self, name: &str) -> Identity {
        self.sign_until(name, 2999)
    }

    /// A certificate for `name` that expires with the year.
    pub(crate) fn sign_until(&self, name: &str, year: i32) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a good name");
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("it can be signed");
        Identity { chain: certificate.pem(), key: key.serialize_pem() }
    }

    /// What a member configures: this authority, and a certificate by it or by another.
    pub(crate) fn config(&self, identity: &Identity) -> TlsConfig {
        let dir = tempfile::tempdir().expect("a directory");
        let (roots, chain, key) = self.write(identity, dir.path());
        TlsConfig::from_pem_files(roots, chain, key).expect("files in order")
    }

    /// The same, ready for use.
    pub(crate) fn tls(&self, identity: &Identity) -> Arc<Tls> {
        Arc::new(self.config(identity).build().expect("a good configuration"))
    }

    /// Writes the authority's certificate, the chain and the key into `dir`.
    pub(crate) fn write(&self, identity: &Identity, dir: &Path) -> (String, String, String) {
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).expect("a file");
            path.to_str().expect("UTF-8").to_owned()
        };
        let roots = file("ca.pem", &self.pem());
        (roots, file("node.pem", &identity.chain), file("node.key", &identity.key))
    }
}
