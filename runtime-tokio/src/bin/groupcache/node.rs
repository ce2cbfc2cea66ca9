//! From the command line to a server with its groups.

use std::sync::Arc;

use groupcache_tokio::trace::TraceIds;
use groupcache_tokio::{DnsConfig, DnsRegistry, Runtime, Server, Tokio};

use crate::cli::{ServeArgs, Tracing};
use crate::metrics::Exporter;
use crate::origin::{Keeping, Limits, Origins};
#[cfg(feature = "etcd")]
use crate::report::crosses_in_plain_text;
use crate::report::{Exit, chain};
use crate::secured::Secured;

/// Builds a server, not yet started, and its groups.
///
/// # Errors
/// What the command line asks for does not fit together, or a source cannot be opened.
pub(crate) async fn build(args: &ServeArgs, secured: &Secured, exporter: &Exporter) -> Result<Server, Exit> {
    let max_value = usize::try_from(args.max_value.as_u64()).map_err(|_| {
        Exit::usage(format!("--max-value {} is more than this machine can hold", args.max_value))
    })?;
    let server = server(args, secured, exporter, max_value).await?;
    let keeping = Keeping { most: args.ttl, revalidates: !args.revalidate_for.is_zero() };
    let mut origins = Origins::new(Limits { max_value, stall: args.origin_stall, keeping });
    for group in &args.groups {
        let refused = |why: String| Exit::start(format!("group `{}`: {why}", group.name));
        if server.group(&group.name).is_some() {
            return Err(Exit::usage(format!("group `{}` is given twice", group.name)));
        }
        let origin = origins.open(&group.source).map_err(refused)?;
        let mut builder = server
            .group_builder(&group.name)
            .negative_ttl(args.negative_ttl)
            .stale_while_revalidate(args.stale_while_revalidate)
            .stale_if_error(args.stale_if_error)
            .revalidate_for(args.revalidate_for)
            .retriever(origin);
        if let Some(ttl) = args.ttl {
            builder = builder.ttl(ttl);
        }
        builder.build().map_err(|error| refused(chain(&error)))?;
        tracing::info!(group = group.name, source = %group.source, "serving");
    }
    Ok(server)
}

#[allow(clippy::unused_async)] // Only etcd has something to wait for.
async fn server(
    args: &ServeArgs,
    secured: &Secured,
    exporter: &Exporter,
    max_value: usize,
) -> Result<Server, Exit> {
    let mut builder = exporter
        .record(Server::builder())
        .addr(&args.addr)
        .placement(args.placement)
        .weight(args.weight)
        .budget(args.budget.as_u64())
        .max_value(max_value)
        .load_timeout(args.load_timeout)
        .hot_ttl(args.hot_ttl)
        .drain(args.drain)
        .registry_timeout(args.registry_timeout);
    if args.tracing == Tracing::W3c {
        builder = builder.tracing(Arc::new(TraceIds::new()));
    }
    if let Some(one_in) = args.hot_keys.0 {
        builder = builder.hot_keys(one_in.get());
    }
    if let Some(listen) = &args.listen {
        builder = builder.listen(listen);
    }
    if !args.peers.is_empty() {
        builder = builder.peers(&args.peers);
    }
    if let Some(tls) = &secured.peers {
        builder = builder.security(Arc::new(tls.clone()));
    }
    if let Some(age) = args.secure.peer_max_age {
        builder = builder.max_connection_age(age);
    }
    if let Some(tokens) = &secured.tokens {
        builder = builder.tokens(tokens.clone());
    }
    if let Some(dns) = dns(args)? {
        builder = builder.registry(Arc::new(dns));
    }
    if !args.etcd.is_empty() {
        #[cfg(feature = "etcd")]
        {
            builder = builder.registry(Arc::new(etcd(args, secured).await?));
        }
        #[cfg(not(feature = "etcd"))]
        return Err(Exit::usage(
            "this binary was built without etcd: rebuild with `--features etcd`, which needs protoc \
             (Debian: apt-get install protobuf-compiler)",
        ));
    }
    builder.build().map_err(|error| Exit::usage(chain(&error)))
}

fn dns(args: &ServeArgs) -> Result<Option<DnsRegistry>, Exit> {
    let mut config = match (&args.dns, &args.dns_srv) {
        (None, None) => return Ok(None),
        (None, Some(service)) => DnsConfig::services(service),
        (Some(hosts), _) => {
            let (name, port) = hosts.rsplit_once(':').unwrap_or((hosts, ""));
            let port =
                port.parse().map_err(|_| Exit::usage(format!("--dns {hosts}: the port is missing")))?;
            DnsConfig::hosts(name, port)
        }
    };
    if args.weight != 1 {
        return Err(Exit::usage("--weight needs --etcd: in DNS all members weigh the same"));
    }
    config.servers.clone_from(&args.dns_server);
    let runtime: Arc<dyn Runtime> = Arc::new(Tokio);
    let registry = DnsRegistry::new(&runtime, config);
    registry.map(Some).map_err(|error| Exit::usage(chain(&error)))
}

#[cfg(feature = "etcd")]
async fn etcd(args: &ServeArgs, secured: &Secured) -> Result<groupcache_tokio::EtcdRegistry, Exit> {
    let mut config = groupcache_tokio::EtcdConfig::new(&args.etcd);
    match &secured.etcd {
        Some(tls) => config.security = Some(Arc::new(tls.clone())),
        None if args.etcd.iter().any(|url| url.starts_with("https://")) => {
            return Err(Exit::usage(
                "--etcd https://... needs --etcd-ca FILE: the authority that has signed etcd's certificate",
            ));
        }
        None => {}
    }
    // A little sooner than the node itself gives up, so that it hears why.
    config.request_timeout = args.registry_timeout * 3 / 4;
    config.connect_timeout = config.connect_timeout.min(args.registry_timeout / 2);
    config.user = etcd_user(args)?;
    let is_plain = |url: &String| crosses_in_plain_text(url, secured.etcd.is_some());
    if config.user.is_some() && args.etcd.iter().any(is_plain) {
        tracing::warn!("the password of --etcd-user goes to etcd in plain text: use https:// and --etcd-ca");
    }
    groupcache_tokio::EtcdRegistry::new(Arc::new(Tokio), config)
        .await
        .map_err(|error| Exit::usage(format!("--etcd: {}", chain(&error))))
}

#[cfg(feature = "etcd")]
fn etcd_user(args: &ServeArgs) -> Result<Option<groupcache_tokio::EtcdUser>, Exit> {
    let Some(name) = &args.etcd_user else { return Ok(None) };
    let file = args.etcd_password_file.as_ref();
    // A name in a configuration file has not been checked for this by the command line.
    let file = file.ok_or_else(|| Exit::usage("--etcd-user needs --etcd-password-file"))?;
    let password = std::fs::read_to_string(file)
        .map_err(|error| Exit::start(format!("--etcd-password-file {}: {error}", file.display())))?;
    let password = password.strip_suffix('\n').unwrap_or(&password);
    let password = password.strip_suffix('\r').unwrap_or(password);
    Ok(Some(groupcache_tokio::EtcdUser::new(name, password)))
}
