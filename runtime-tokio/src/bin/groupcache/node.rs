//! From the command line to a server with its groups.

#[cfg(feature = "etcd")]
use std::sync::Arc;

use groupcache_tokio::Server;

use crate::cli::ServeArgs;
use crate::origin::{Keeping, Limits, Origins};
use crate::report::{Exit, chain};

/// Builds a server, not yet started, and its groups.
///
/// # Errors
/// What the command line asks for does not fit together, or a source cannot be opened.
pub(crate) async fn build(args: &ServeArgs) -> Result<Server, Exit> {
    let max_value = usize::try_from(args.max_value.as_u64()).map_err(|_| {
        Exit::usage(format!("--max-value {} is more than this machine can hold", args.max_value))
    })?;
    let server = server(args, max_value).await?;
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
async fn server(args: &ServeArgs, max_value: usize) -> Result<Server, Exit> {
    let mut builder = Server::builder()
        .addr(&args.addr)
        .placement(args.placement)
        .weight(args.weight)
        .budget(args.budget.as_u64())
        .max_value(max_value)
        .load_timeout(args.load_timeout)
        .hot_ttl(args.hot_ttl)
        .drain(args.drain)
        .registry_timeout(args.registry_timeout);
    if let Some(listen) = &args.listen {
        builder = builder.listen(listen);
    }
    if !args.peers.is_empty() {
        builder = builder.peers(&args.peers);
    }
    if !args.etcd.is_empty() {
        #[cfg(feature = "etcd")]
        {
            builder = builder.registry(Arc::new(etcd(args).await?));
        }
        #[cfg(not(feature = "etcd"))]
        return Err(Exit::usage(
            "this binary was built without etcd: rebuild with `--features etcd`, which needs protoc \
             (Debian: apt-get install protobuf-compiler)",
        ));
    }
    builder.build().map_err(|error| Exit::usage(chain(&error)))
}

#[cfg(feature = "etcd")]
async fn etcd(args: &ServeArgs) -> Result<groupcache_tokio::EtcdRegistry, Exit> {
    let mut config = groupcache_tokio::EtcdConfig::new(&args.etcd);
    // A little sooner than the node itself gives up, so that it hears why.
    config.request_timeout = args.registry_timeout * 3 / 4;
    config.connect_timeout = config.connect_timeout.min(args.registry_timeout / 2);
    config.user = etcd_user(args)?;
    groupcache_tokio::EtcdRegistry::new(Arc::new(groupcache_tokio::Tokio), config)
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
