//! TLS by itself, and between a node and a real etcd. Between nodes each adapter's tests have it.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::future::join;
use groupcache_core::{Revision, WatchEvent};
use groupcache_runtime::{
    EtcdConfig, EtcdRegistry, Registration, Registry, Runtime, Security, Tls, TlsConfig, TlsConfigError,
    TlsError,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use support::async_std_runtime::AsyncStdRuntime;
use support::authority::Authority;
use support::etcd::{Etcd, TlsFiles};
use support::tokio_runtime::TokioRuntime;

mod support {
    pub(crate) mod async_std_runtime;
    pub(crate) mod authority;
    #[allow(dead_code)] // What the other tests of etcd need.
    pub(crate) mod etcd;
    pub(crate) mod tokio_runtime;
}

const TTL: Duration = Duration::from_secs(60);
const HOST: &str = "127.0.0.1";

/// An etcd with a certificate by `authority`, and the directory of its files.
fn secured_etcd(authority: &Authority) -> (Etcd, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let (roots, chain, key) = authority.write(&authority.sign(HOST), dir.path());
    (Etcd::start_secured(TlsFiles { roots, chain, key }), dir)
}

/// A registry of `endpoint` over `tls`; time limits that a busy machine keeps.
async fn registry(rt: Arc<dyn Runtime>, endpoint: String, tls: Arc<Tls>) -> EtcdRegistry {
    let mut config = EtcdConfig::new([endpoint]);
    config.security = Some(tls);
    config.connect_timeout = Duration::from_secs(10);
    config.request_timeout = Duration::from_secs(15);
    EtcdRegistry::new(rt, config).await.expect("a good configuration")
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        write!(text, ": {cause}").expect("a string takes everything");
        next = cause.source();
    }
    text
}

async fn registers_lists_watches_and_leaves(registry: &EtcdRegistry, etcd: &Etcd) {
    let granted = registry.register(&Registration::new("a:1", 1), TTL).await.expect("a lease");
    let said = etcd.ctl(&["get", "--prefix", "groupcache/", "--print-value-only"]);
    assert_eq!(said.trim(), r#"{"Op":0,"Addr":"a:1","Metadata":null}"#);
    let listing = registry.list().await.expect("a list");
    assert_eq!(listing.records.len(), 1);
    let mut watch = registry.watch(Revision::new(0)).await.expect("a watch");
    let put = watch.next().await;
    assert!(matches!(put, Some(WatchEvent::Changed { .. })), "{put:?}");
    registry.deregister("a:1", Some(granted.lease)).await.expect("it is forgotten");
    assert!(registry.list().await.expect("a list").records.is_empty());
}

#[tokio::test]
async fn an_etcd_that_wants_certificates_is_registered_in_over_tls() {
    let authority = Authority::new();
    let (etcd, _files) = secured_etcd(&authority);
    let tls = authority.tls(&authority.sign("a.member"));
    let registry = registry(Arc::new(TokioRuntime), format!("https://{}", etcd.endpoint()), tls).await;
    registers_lists_watches_and_leaves(&registry, &etcd).await;
}

#[test]
fn etcd_over_tls_needs_no_tokio_runtime() {
    let authority = Authority::new();
    let (etcd, _files) = secured_etcd(&authority);
    let tls = authority.tls(&authority.sign("a.member"));
    async_std::task::block_on(async {
        let registry = registry(Arc::new(AsyncStdRuntime), etcd.endpoint(), tls).await;
        registers_lists_watches_and_leaves(&registry, &etcd).await;
        assert!(tokio::runtime::Handle::try_current().is_err());
    });
}

#[tokio::test]
async fn who_is_not_trusted_by_etcd_or_does_not_trust_it_hears_why_in_bounded_time() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let (etcd, dir) = secured_etcd(&authority);
    let plain = Etcd::start();
    let nobody = TlsConfig::from_pem_roots(dir.path().join("ca.pem")).and_then(TlsConfig::build);
    let nobody = Arc::new(nobody.expect("roots are enough to connect"));
    let member = authority.tls(&authority.sign("a.member"));
    for (what, endpoint, tls, said) in [
        ("no certificate", etcd.endpoint(), nobody, "does not trust this node"),
        (
            "a foreign one",
            etcd.endpoint(),
            authority.tls(&foreign.sign("a.member")),
            "does not trust this node",
        ),
        (
            "an expired one",
            etcd.endpoint(),
            authority.tls(&authority.sign_until("a", 2001)),
            "does not trust this node",
        ),
        ("a foreign etcd", etcd.endpoint(), foreign.tls(&foreign.sign("a.member")), "cannot be trusted"),
        ("plain text", plain.endpoint(), member, "before TLS was agreed on"),
    ] {
        let registry = registry(Arc::new(TokioRuntime), format!("https://{endpoint}"), tls).await;
        let asked = Instant::now();
        let error = registry.list().await.expect_err(what);
        let text = chain(&error);
        assert!(
            text.contains(said) || (what == "plain text" && text.contains("plain text")),
            "{what}: {text}"
        );
        assert!(asked.elapsed() < Duration::from_secs(14), "{what}: {:?}", asked.elapsed());
    }
    assert_eq!(etcd.ctl(&["get", "--prefix", "groupcache/"]), "");
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_reason() {
    let authority = Authority::new();
    let (one, other) = (authority.sign(HOST), authority.sign(HOST));
    let dir = tempfile::tempdir().expect("a directory");
    let (roots, node, key) = authority.write(&one, dir.path());
    let missing = dir.path().join("missing.pem").display().to_string();
    for (files, what, at) in [
        ([&missing, &node, &key], "certificate", &missing),
        ([&roots, &missing, &key], "certificate", &missing),
        ([&roots, &node, &missing], "private key", &missing),
        ([&key, &node, &key], "certificate", &key),
        ([&roots, &node, &roots], "private key", &roots),
    ] {
        match TlsConfig::from_pem_files(files[0], files[1], files[2]) {
            Err(TlsConfigError::Pem { what: found, path, .. }) => {
                assert_eq!((found, &path.display().to_string()), (what, at));
            }
            other => panic!("{files:?}: {other:?}"),
        }
    }
    let mixed = mixture(&one.chain, &other.key);
    let unusable = authority.config(&mixed).build().expect_err("the key is another's");
    assert!(matches!(unusable, TlsConfigError::Identity { .. }));
    assert!(unusable.to_string().contains("node.pem") && unusable.to_string().contains("node.key"));
    assert!(matches!(TlsConfig::new([]).build(), Err(TlsConfigError::NoRoots)));
    let rubbish = CertificateDer::from(vec![1, 2, 3]);
    assert!(matches!(TlsConfig::new([rubbish]).build(), Err(TlsConfigError::Root { .. })));
    let unnamed = authority.config(&one).server_name("no name").build();
    assert!(matches!(unnamed, Err(TlsConfigError::Name { name, .. }) if name == "no name"));
}

fn mixture(chain: &str, key: &str) -> support::authority::Identity {
    support::authority::Identity { chain: chain.to_owned(), key: key.to_owned() }
}

/// What becomes of a handshake between the two, at either end.
async fn handshake(client: &Tls, server: &Tls) -> (Option<TlsError>, Option<TlsError>) {
    let mut listener = TokioRuntime.listen("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("it listens").to_string();
    let connect = async {
        let io = TokioRuntime.connect(&addr).await.expect("it listens");
        client.connect(&addr, io).await.map(drop)
    };
    let accept = async {
        let (io, _) = listener.accept().await.expect("it is connected to");
        server.accept(io).await.map(drop)
    };
    let (connected, accepted) = join(connect, accept).await;
    (connected.err().map(typed), accepted.err().map(typed))
}

/// Every error of a handshake has its type inside.
fn typed(error: io::Error) -> TlsError {
    *error.into_inner().expect("an inner error").downcast().expect("of TLS")
}

/// rustls as anybody configures it: it trusts `authority`, and shows nothing.
fn anonymous(authority: &Authority, protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
    roots.add(root).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

#[tokio::test]
async fn a_side_for_http1_takes_who_speaks_it_and_who_says_nothing_and_asks_nobody_who_they_are() {
    let authority = Authority::new();
    let side = authority.config(&authority.sign(HOST)).mutual(false).for_http1().build().expect("a good one");
    for (protocols, taken) in [(&["h2", "http/1.1"][..], true), (&["h2"], false)] {
        let client = Tls::new(Arc::new(anonymous(&authority, protocols)), None);
        let (_, at_server) = handshake(&client, &side).await;
        assert_eq!(at_server.is_none(), taken, "{protocols:?}: {at_server:?}");
    }
    let client = TlsConfig::new([CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM")]);
    let client = client.for_http1().build().expect("roots are enough to connect");
    assert!(matches!(handshake(&client, &side).await, (None, None)));
}

#[test]
fn when_a_certificate_expires_can_be_asked() {
    let authority = Authority::new();
    let expires = |year| authority.tls(&authority.sign_until(HOST, year)).expires();
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs();
    assert_eq!(expires(2001).map(seconds), Some(1_009_756_800));
    assert!(expires(2999) > expires(2998));
    assert_eq!(Tls::new(Arc::new(anonymous(&authority, &[])), None).expires(), None);
}

#[tokio::test]
async fn configurations_of_rustls_are_taken_as_they_are_with_http2_added() {
    let authority = Authority::new();
    let open = authority.config(&authority.sign(HOST)).mutual(false).build().expect("a configuration");
    let client = Tls::new(Arc::new(anonymous(&authority, &[])), None);
    assert!(matches!(handshake(&client, &open).await, (None, None)), "nobody asks for a certificate");
    let (_, at_server) = handshake(&open, &client).await;
    assert!(matches!(at_server, Some(TlsError::NoCertificate)), "{at_server:?}");

    let other = Tls::new(Arc::new(anonymous(&authority, &["http/1.1"])), None);
    let (at_client, at_server) = handshake(&other, &open).await;
    assert!(matches!(at_client, Some(TlsError::NoHttp2)), "{at_client:?}");
    assert!(matches!(at_server, Some(TlsError::NoHttp2)), "{at_server:?}");
}

#[tokio::test]
async fn each_end_hears_whom_it_cannot_trust() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let member = authority.tls(&authority.sign(HOST));
    for stranger in [authority.tls(&foreign.sign(HOST)), authority.tls(&authority.sign_until(HOST, 2001))] {
        let (_, at_server) = handshake(&stranger, &member).await;
        assert!(matches!(at_server, Some(TlsError::Untrusted(_))), "{at_server:?}");
        let (at_client, at_server) = handshake(&member, &stranger).await;
        assert!(matches!(at_client, Some(TlsError::Untrusted(_))), "{at_client:?}");
        assert!(matches!(at_server, Some(TlsError::Refused(_))), "{at_server:?}");
    }
    let elsewhere = authority.tls(&authority.sign("elsewhere.test"));
    let (at_client, _) = handshake(&member, &elsewhere).await;
    assert!(matches!(at_client, Some(TlsError::Untrusted(_))), "another host's certificate: {at_client:?}");
    let silent = Tls::new(Arc::new(anonymous(&authority, &[])), None);
    let (_, at_server) = handshake(&silent, &member).await;
    assert!(matches!(at_server, Some(TlsError::Untrusted(_))), "no certificate: {at_server:?}");
}
