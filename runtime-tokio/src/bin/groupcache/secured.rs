//! TLS and tokens of a node: the flags, and what they make.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use groupcache_tokio::{ReloadingTls, Runtime, Tls, TlsConfig, TlsConfigError, Tokens, TokensError, Tokio};

use crate::cli::{NodeArgs, duration};
use crate::hangups::Hangups;
use crate::report::{Exit, chain};

#[derive(Debug, Args)]
pub(crate) struct SecureArgs {
    /// This node's certificate, and those between it and an authority, in PEM. With --tls-key and --tls-ca all peers speak TLS, or none does.
    ///
    /// The files are read again when they change, and at SIGHUP; open connections live on (see --peer-max-age).
    #[arg(long, env = "GROUPCACHE_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The key of --tls-cert, in PEM.
    #[arg(long, env = "GROUPCACHE_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// The authorities whose certificates are trusted in peers, in PEM.
    #[arg(long, env = "GROUPCACHE_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Whether who connects as a peer must show a certificate of --tls-ca. `off` lets in whoever reaches the port.
    #[arg(long, env = "GROUPCACHE_TLS_CLIENT_AUTH", value_name = "MODE", default_value = "required")]
    tls_client_auth: ClientAuth,

    /// The name that every member's certificate is for, where that is not the host it is listed by.
    #[arg(long, env = "GROUPCACHE_TLS_SERVER_NAME", value_name = "NAME")]
    tls_server_name: Option<String>,

    /// Whose certificates may remove keys as a peer, beside those for a member's host or --tls-server-name.
    #[arg(long, env = "GROUPCACHE_TLS_ALLOWED_NAMES", value_delimiter = ',', value_name = "NAME,...")]
    tls_allowed_names: Vec<String>,

    /// How long a connection of a peer is used before it is made anew, with the certificates of then. Without it: as long as it lasts.
    #[arg(long, env = "GROUPCACHE_PEER_MAX_AGE", value_name = "DURATION", value_parser = duration)]
    pub(crate) peer_max_age: Option<Duration>,

    /// Speak HTTPS on the HTTP side, with the certificate of --tls-cert. No client is asked for one: --token-file is for that.
    #[arg(long, env = "GROUPCACHE_HTTP_TLS", value_name = "on|off", default_value = "off", default_missing_value = "on",
        num_args = 0..=1, action = ArgAction::Set, value_parser = on_or_off)]
    http_tls: bool,

    /// The authorities whose certificate is trusted in etcd, in PEM: for --etcd https://...
    #[arg(long, env = "GROUPCACHE_ETCD_CA", value_name = "FILE")]
    etcd_ca: Option<PathBuf>,

    /// What this node shows to etcd, where that asks for a certificate, in PEM.
    #[arg(long, env = "GROUPCACHE_ETCD_CERT", value_name = "FILE")]
    etcd_cert: Option<PathBuf>,

    /// The key of --etcd-cert, in PEM.
    #[arg(long, env = "GROUPCACHE_ETCD_KEY", value_name = "FILE")]
    etcd_key: Option<PathBuf>,

    /// Tokens, one of which whoever asks must send: `authorization: Bearer TOKEN`, over HTTP and in gRPC's metadata. One on each line.
    ///
    /// Members send each other the first, so all are given the same file. It is read again when it changes, and at SIGHUP: to replace a token put the
    /// new one below the old on every node, then swap them, then drop the old one. The pages /-/healthz and /-/readyz need none.
    #[arg(long, env = "GROUPCACHE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// What needs a token of --token-file: `writes` lets everybody read.
    #[arg(long, env = "GROUPCACHE_TOKEN_FOR", value_name = "all|writes", default_value = "all")]
    token_for: TokenFor,

    /// How often certificates and tokens are looked at again.
    #[arg(long, env = "GROUPCACHE_RELOAD_INTERVAL", default_value = "30s", value_name = "DURATION", value_parser = duration)]
    reload_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClientAuth {
    Required,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TokenFor {
    All,
    Writes,
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

/// What a node secures its sides with.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) peers: Option<ReloadingTls>,
    pub(crate) http: Option<ReloadingTls>,
    pub(crate) etcd: Option<ReloadingTls>,
    pub(crate) tokens: Option<Tokens>,
}

impl Secured {
    /// # Errors
    /// Flags that do not fit together, and files that cannot be used.
    pub(crate) fn of(args: &SecureArgs) -> Result<Self, Exit> {
        let (peers, http) = args.peers_and_http()?;
        Ok(Self { peers, http, etcd: args.etcd()?, tokens: args.tokens()? })
    }

    /// Looks at the files from now on.
    ///
    /// # Errors
    /// The system refuses a handler of SIGHUP.
    pub(crate) fn watch(self: &Arc<Self>, args: &SecureArgs) -> Result<(), Exit> {
        let runtime: Arc<dyn Runtime> = Arc::new(Tokio);
        for (_, tls) in self.all_tls() {
            tls.watch(&runtime, args.reload_interval);
        }
        if self.all_tls().next().is_none() && self.tokens.is_none() {
            // SIGHUP ends the process, as it does any that has nothing to read again: a terminal that goes away takes the node along.
            return Ok(());
        }
        let hangups =
            Hangups::listen().map_err(|error| Exit::start(format!("cannot listen for SIGHUP: {error}")))?;
        tokio::spawn(Arc::clone(self).keep_reading(args.reload_interval, hangups));
        Ok(())
    }

    async fn keep_reading(self: Arc<Self>, interval: Duration, mut hangups: Hangups) {
        let mut wrong = None;
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(interval) => false,
                () = hangups.next() => true,
            };
            let (secured, before) = (Arc::clone(&self), wrong.take());
            let reading = tokio::task::spawn_blocking(move || {
                if asked {
                    secured.reload_tls();
                }
                secured.reload_tokens(if asked { None } else { before })
            });
            wrong = reading.await.unwrap_or_default();
        }
    }

    fn reload_tls(&self) {
        tracing::info!("SIGHUP: certificates and tokens are read again");
        for (what, tls) in self.all_tls() {
            if let Err(error) = tls.reload() {
                tracing::warn!(
                    what,
                    error = chain(&error),
                    "certificates cannot be used: the ones of before stay in use"
                );
            }
        }
    }

    /// What is wrong with the tokens. That is not told a second time.
    fn reload_tokens(&self, before: Option<String>) -> Option<String> {
        match self.tokens.as_ref()?.reload() {
            Ok(true) => tracing::info!("the tokens have changed"),
            Ok(false) => {}
            Err(error) => {
                let wrong = chain(&error);
                if before.as_ref() != Some(&wrong) {
                    tracing::warn!(
                        error = wrong,
                        "the tokens cannot be used: the ones of before stay in use"
                    );
                }
                return Some(wrong);
            }
        }
        None
    }

    fn all_tls(&self) -> impl Iterator<Item = (&'static str, &ReloadingTls)> {
        let all = [("peers", &self.peers), ("http", &self.http), ("etcd", &self.etcd)];
        all.into_iter().filter_map(|(what, tls)| Some((what, tls.as_ref()?)))
    }
}

impl SecureArgs {
    fn peers_and_http(&self) -> Result<(Option<ReloadingTls>, Option<ReloadingTls>), Exit> {
        let (cert, key, ca) = match (&self.tls_cert, &self.tls_key, &self.tls_ca) {
            (None, None, None) if self.http_tls => {
                return Err(Exit::usage("--http-tls needs --tls-cert, --tls-key and --tls-ca"));
            }
            (None, None, None) => return Ok((None, None)),
            (Some(cert), Some(key), Some(ca)) => (cert.clone(), key.clone(), ca.clone()),
            _ => {
                let usage = "--tls-cert, --tls-key and --tls-ca go together: give all of them, or none";
                return Err(Exit::usage(usage));
            }
        };
        let (name, allowed) = (self.tls_server_name.clone(), self.tls_allowed_names.clone());
        let mutual = self.tls_client_auth == ClientAuth::Required;
        let files = (cert.clone(), key.clone(), ca.clone());
        let peers = tls("--tls-cert", move || {
            let config = TlsConfig::from_pem_files(&files.2, &files.0, &files.1)?;
            let config = config.mutual(mutual).allowed_names(&allowed);
            Ok(match &name {
                Some(name) => config.server_name(name),
                None => config,
            })
        })?;
        let http = move || Ok(TlsConfig::from_pem_files(&ca, &cert, &key)?.mutual(false).for_http1());
        let http = self.http_tls.then(|| tls("--http-tls", http)).transpose()?;
        Ok((Some(peers), http))
    }

    fn etcd(&self) -> Result<Option<ReloadingTls>, Exit> {
        let identity = match (self.etcd_cert.clone(), self.etcd_key.clone()) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => return Err(Exit::usage("--etcd-cert and --etcd-key go together: give both, or neither")),
        };
        let Some(ca) = self.etcd_ca.clone() else {
            return match identity {
                None => Ok(None),
                Some(_) => Err(Exit::usage("--etcd-cert needs --etcd-ca: whom to trust in etcd")),
            };
        };
        let made = tls("--etcd-ca", move || {
            let config = TlsConfig::from_pem_roots(&ca)?;
            match &identity {
                Some((cert, key)) => config.pem_identity(cert, key),
                None => Ok(config),
            }
        })?;
        Ok(Some(made))
    }

    fn tokens(&self) -> Result<Option<Tokens>, Exit> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let tokens = read_tokens(file)?;
        Ok(Some(tokens.only_for_writes(self.token_for == TokenFor::Writes)))
    }
}

fn tls(
    flag: &str,
    make: impl Fn() -> Result<TlsConfig, TlsConfigError> + Send + Sync + 'static,
) -> Result<ReloadingTls, Exit> {
    ReloadingTls::new(make).map_err(|error| Exit::start(format!("{flag}: {}", chain(&error))))
}

fn read_tokens(file: &Path) -> Result<Tokens, Exit> {
    Tokens::from_file(file).map_err(|error: TokensError| {
        Exit::start(format!("--token-file {}: {}", file.display(), chain(&error)))
    })
}

impl NodeArgs {
    /// What a client of a node at `https://` speaks to it with.
    ///
    /// # Errors
    /// There is no --tls-ca, or it cannot be used.
    pub(crate) fn tls(&self) -> Result<Tls, Exit> {
        let ca = self.tls_ca.as_ref().ok_or_else(|| {
            Exit::usage("https needs --tls-ca FILE: the authority that has signed the node's certificate")
        })?;
        let config = TlsConfig::from_pem_roots(ca).map(TlsConfig::for_http1);
        let config = config.map(|config| match &self.tls_server_name {
            Some(name) => config.server_name(name),
            None => config,
        });
        let tls = config.and_then(TlsConfig::build);
        tls.map_err(|error| Exit::usage(format!("--tls-ca: {}", chain(&error))))
    }

    /// # Errors
    /// --token-file cannot be used.
    pub(crate) fn tokens(&self) -> Result<Option<Tokens>, Exit> {
        self.token_file.as_deref().map(read_tokens).transpose()
    }
}
