//! The command line: what can be said, and what is refused before anything starts.

mod look;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use groupcache_core::Placement;

pub(crate) use self::look::{BenchArgs, TopArgs, WhyArgs};
use crate::origin::Source;
use crate::secured::SecureArgs;

const EXAMPLES: &str = "\
Examples:
  groupcache serve                                        the current directory, on one node
  curl http://127.0.0.1:8080/files/README.md              a file through it
  groupcache get files README.md                          the same, without curl

  groupcache serve --group img=https://img.example/v1/ --budget 1GiB --ttl 10m
  groupcache serve --addr 10.0.0.1:6324 --peers 10.0.0.1:6324,10.0.0.2:6324

  groupcache top                                          the node at work; in a browser: http://127.0.0.1:8080/
  groupcache why files README.md                          whose a key is, and what became of it
  groupcache bench files --keys-from names.txt            how fast, and where answers come from
  groupcache ring --members a:1,b:1,c:1 some-key          who would own a key, with no node running

Exit codes: 0 done, 1 no such key (or, for serve, could not start), 2 wrong usage, 3 any other failure.";

const SERVE_EXAMPLES: &str = "\
One node, serving the current directory:
  groupcache serve
  curl -i http://127.0.0.1:8080/files/README.md     x-groupcache: load, and hit the second time

Three nodes that know each other by name; each key is loaded by one of them:
  export ALL=127.0.0.1:6324,127.0.0.1:6325,127.0.0.1:6326
  groupcache serve --addr 127.0.0.1:6324 --http 127.0.0.1:8080 --peers $ALL
  groupcache serve --addr 127.0.0.1:6325 --http 127.0.0.1:8081 --peers $ALL
  groupcache serve --addr 127.0.0.1:6326 --http 127.0.0.1:8082 --peers $ALL

Nodes that find each other through etcd:
  groupcache serve --addr 10.0.0.1:6324 --etcd http://10.0.0.9:2379

Nodes that DNS knows, such as the pods behind a headless service:
  groupcache serve --addr $POD_IP:6324 --dns groupcache.default.svc.cluster.local:6324

Nodes on a network that others are on too: TLS between all of them, and for clients, who need a token:
  openssl rand -base64 32 > token
  groupcache serve --addr 10.0.0.1:6324 --http 10.0.0.1:8080 --peers $ALL \\
    --tls-cert node.pem --tls-key node.key --tls-ca ca.pem --http-tls --token-file token
  groupcache get --node https://10.0.0.1:8080 --tls-ca ca.pem --token-file token files README.md

HTTP side:
  GET /                a page for people: the node at work
  GET /GROUP/KEY       the value; header x-groupcache: hit, hot, peer or load
  DELETE /GROUP/KEY    forget it, on every node
  GET /-/healthz       200 while the process lives
  GET /-/readyz        200 from when the node has joined until it stops, else 503
  GET /-/stats         counters, as JSON
  GET /-/ring          members and their shares, as JSON
  GET /metrics         everything that is counted and timed, for Prometheus;
                       also at /-/metrics
  GET /-/live          what the page shows, as JSON
  GET /-/why/GROUP/KEY what is known of a key, as JSON

A key is the rest of the path, percent-decoded once; it may contain slashes.
The header x-groupcache-owner names the member that owns it.
A value has the content type, ETag, Last-Modified and Cache-Control of its origin,
and its Age; a file those of its name and its time. If-None-Match, If-Modified-Since,
Range (one) and If-Range are answered.

How long a value is kept, an HTTP origin says as to any shared cache: Cache-Control
(s-maxage, max-age, no-cache, must-revalidate), else Expires, within --ttl. What is
private, no-store, or varies by more than its encoding is delivered and not kept.
An expired value is asked for by If-None-Match or If-Modified-Since: 304 keeps it.

A failure is one line of JSON that says what and why:
  404  not_found, no_such_group        400  invalid_key
  502  origin_failed, value_too_large  503  overloaded, stopping
  504  deadline                        401  no_token, unknown_token

SIGTERM or ctrl-c leaves the ring, finishes what is in progress within --drain,
and exits; a second one exits at once. SIGHUP reads certificates and tokens again.";

const CHECK_EXAMPLES: &str = "\
Examples:
  groupcache check /etc/groupcache.toml && systemctl restart groupcache
  groupcache serve --config /etc/groupcache.toml --budget 1GiB     a flag goes before the file

A file has the flags of `groupcache serve` by name:
  addr = \"10.0.0.1:6324\"
  etcd = [\"http://10.0.0.9:2379\"]
  group = [\"files=file:/srv/files\", \"img=https://img.example/v1/\"]
  budget = \"1GiB\"
  ttl = \"10m\"

The environment has them too, in capitals: GROUPCACHE_BUDGET=1GiB.
A flag goes before the environment, that before the file, the file before the default.

Exit codes: 0 no mistakes, 2 there are some, or the file cannot be read.";

const GET_EXAMPLES: &str = "\
Examples:
  groupcache get files README.md
  groupcache get files 'dir/a name with spaces.txt' > copy.txt
  groupcache get --node http://10.0.0.2:8080 img logo.png | file -

Exit codes: 0 the value is on stdout, 1 no such key, 2 wrong usage, 3 any other failure.";

const RING_EXAMPLES: &str = "\
Examples:
  groupcache ring                                    the ring as a running node sees it
  groupcache ring --members a:1,b:1,c:1 k1 k2        who owns k1 and k2: lines of KEY<TAB>OWNER
  groupcache ring --members a:1,b:1 --weights 1,3 --placement slots/1 k1";

/// A peer-to-peer, read-through cache: every process of a fleet joins one ring, each key has one owner, and a miss is loaded once.
///
/// `groupcache serve` runs a node in front of a directory or an HTTP origin. The other commands talk to a running node.
#[derive(Debug, Parser)]
#[command(name = "groupcache", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to log on stderr: error, warn, info, debug, trace, or a filter such as `info,groupcache_runtime=debug`.
    #[arg(long, global = true, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node: join the ring, answer peers over gRPC and everybody else over HTTP.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Print a value, byte for byte.
    #[command(after_help = GET_EXAMPLES)]
    Get(KeyArgs),
    /// Remove a key from every node's cache. The origin keeps it.
    Rm(KeyArgs),
    /// Show the ring's members and shares, or say who would own a key.
    #[command(after_help = RING_EXAMPLES)]
    Ring(RingArgs),
    /// Show a node's counters.
    Stats(ShowArgs),
    /// Tell what a node knows of a key: whose it is, whether it is kept, and what became of it.
    #[command(after_help = look::WHY_EXAMPLES)]
    Why(WhyArgs),
    /// Watch nodes at work, in the terminal.
    #[command(after_help = look::TOP_EXAMPLES)]
    Top(TopArgs),
    /// Put load on nodes, and tell how fast they answer and from where.
    #[command(after_help = look::BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Explain every mistake in a configuration file, or show what a node would run with.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Settings from a TOML file, by the names of these flags without the hyphens before them; what a flag or the environment says goes first.
    ///
    /// `groupcache check FILE` explains what is wrong in one.
    #[arg(long, env = "GROUPCACHE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Where peers reach this node: listened on, and its name on the ring. Port 0 takes any free one.
    #[arg(long, env = "GROUPCACHE_ADDR", default_value = "127.0.0.1:6324", value_name = "HOST:PORT", value_parser = host_port)]
    pub(crate) addr: String,

    /// Where to listen for peers, where that is not --addr: 0.0.0.0:6324 in a container, or behind a proxy.
    #[arg(long, env = "GROUPCACHE_LISTEN", value_name = "HOST:PORT", value_parser = host_port)]
    pub(crate) listen: Option<String>,

    /// Where the HTTP side listens: on loopback, or with --http-tls and --token-file. Port 0 takes any free one.
    #[arg(long, env = "GROUPCACHE_HTTP", default_value = "127.0.0.1:8080", value_name = "HOST:PORT", value_parser = host_port)]
    pub(crate) http: String,

    /// All members of a fixed ring, the same list on every node. This node is added when it is missing.
    #[arg(long, env = "GROUPCACHE_PEERS", value_delimiter = ',', value_name = "HOST:PORT,...", conflicts_with_all = ["etcd", "dns", "dns_srv"], value_parser = host_port)]
    pub(crate) peers: Vec<String>,

    /// Find the members through etcd, and register there. Needs a build with `--features etcd`.
    #[arg(
        long,
        env = "GROUPCACHE_ETCD",
        value_delimiter = ',',
        value_name = "URL,...",
        conflicts_with_all = ["dns", "dns_srv"],
        hide_env_values = true
    )]
    pub(crate) etcd: Vec<String>,

    /// Find the members in DNS: the addresses of this name, each with this port, --addr among them. A headless service of Kubernetes, say.
    #[arg(long, env = "GROUPCACHE_DNS", value_name = "NAME:PORT", conflicts_with = "dns_srv", value_parser = host_port)]
    pub(crate) dns: Option<String>,

    /// Find the members in DNS: the targets of this service (SRV records), by name and port, --addr among them.
    #[arg(long, env = "GROUPCACHE_DNS_SRV", value_name = "NAME")]
    pub(crate) dns_srv: Option<String>,

    /// The name servers to ask for --dns and --dns-srv. Without it: those of /etc/resolv.conf.
    #[arg(long, env = "GROUPCACHE_DNS_SERVER", value_delimiter = ',', value_name = "IP:PORT,...")]
    pub(crate) dns_server: Vec<SocketAddr>,

    /// Who signs in to etcd, where it asks for a name and a password.
    #[arg(long, env = "GROUPCACHE_ETCD_USER", value_name = "NAME")]
    pub(crate) etcd_user: Option<String>,

    /// The file that holds the password of --etcd-user. A line end behind it does not count.
    #[arg(long, env = "GROUPCACHE_ETCD_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) etcd_password_file: Option<PathBuf>,

    /// How long to wait for etcd to answer.
    #[arg(long, env = "GROUPCACHE_REGISTRY_TIMEOUT", default_value = "2s", value_name = "DURATION", value_parser = duration)]
    pub(crate) registry_timeout: Duration,

    /// A group of keys and where its values come from: `NAME=file:DIR`, or `NAME=http://host/prefix/` (https too). May be repeated.
    #[arg(long = "group", env = "GROUPCACHE_GROUP", default_value = "files=file:.", value_name = "NAME=SOURCE", value_parser = group, hide_env_values = true)]
    pub(crate) groups: Vec<GroupArg>,

    /// Memory for cached entries, keys and overhead included: 64MiB, 2GiB, ...
    #[arg(long, env = "GROUPCACHE_BUDGET", default_value = "64MiB", value_name = "SIZE", value_parser = size)]
    pub(crate) budget: ByteSize,

    /// The largest value that is taken from an origin or a peer.
    #[arg(long, env = "GROUPCACHE_MAX_VALUE", default_value = "16MiB", value_name = "SIZE", value_parser = size)]
    pub(crate) max_value: ByteSize,

    /// How long a value is kept at most: 30s, 5m, 2h, ... Less where an HTTP origin says so (Cache-Control, Expires). Without it: for as long as the
    /// origin says, else until it is removed or evicted.
    #[arg(long, env = "GROUPCACHE_TTL", value_name = "DURATION", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,

    /// How long a "not found" is kept.
    #[arg(long, env = "GROUPCACHE_NEGATIVE_TTL", default_value = "5s", value_name = "DURATION", value_parser = duration)]
    pub(crate) negative_ttl: Duration,

    /// How long after it has expired a value is still held, not given out, for its origin to say that it has not changed instead of sending it again.
    #[arg(long, env = "GROUPCACHE_REVALIDATE_FOR", default_value = "1h", value_name = "DURATION", value_parser = grace)]
    pub(crate) revalidate_for: Duration,

    /// How long after it has expired a value is still given out while it is loaded anew behind the answer, unless its origin forbids that.
    #[arg(long, env = "GROUPCACHE_STALE_WHILE_REVALIDATE", default_value = "0s", value_name = "DURATION", value_parser = grace)]
    pub(crate) stale_while_revalidate: Duration,

    /// How long after it has expired a value is still given out when loading it anew fails, unless its origin forbids that.
    #[arg(long, env = "GROUPCACHE_STALE_IF_ERROR", default_value = "0s", value_name = "DURATION", value_parser = grace)]
    pub(crate) stale_if_error: Duration,

    /// How long a copy of another node's key is kept, at most: the bound on staleness when a removal does not reach this node.
    #[arg(long, env = "GROUPCACHE_HOT_TTL", default_value = "30s", value_name = "DURATION", value_parser = duration)]
    pub(crate) hot_ttl: Duration,

    /// How long a request waits for a value, loading it included.
    #[arg(long, env = "GROUPCACHE_LOAD_TIMEOUT", default_value = "30s", value_name = "DURATION", value_parser = duration)]
    pub(crate) load_timeout: Duration,

    /// How long an HTTP origin may say nothing, before and between the bytes of its answer.
    #[arg(long, env = "GROUPCACHE_ORIGIN_STALL", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub(crate) origin_stall: Duration,

    /// How keys are placed on the ring: `slots/1`, in fleets above 100 nodes `slots/1/18`, above 500 `slots/1/20`, or `go-seed` to share a ring with Go nodes. The same on every node.
    #[arg(long, env = "GROUPCACHE_PLACEMENT", default_value = "slots/1", value_name = "SCHEME", value_parser = placement)]
    pub(crate) placement: Placement,

    /// This node's share of the keys, relative to the other members'.
    #[arg(long, env = "GROUPCACHE_WEIGHT", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) weight: u32,

    /// Whether what is no hit gets spans in the log, and carries W3C trace context: from an HTTP request's `traceparent`, to other nodes, to an HTTP origin.
    #[arg(long, env = "GROUPCACHE_TRACING", default_value = "off", value_name = "HOW")]
    pub(crate) tracing: Tracing,

    /// Count one look-up in N, to show which keys are looked up most; `off` counts none.
    #[arg(long, env = "GROUPCACHE_HOT_KEYS", default_value = "1", value_name = "N", value_parser = hot_keys)]
    pub(crate) hot_keys: HotKeys,

    /// How long stopping waits for what is in progress.
    #[arg(long, env = "GROUPCACHE_DRAIN", default_value = "5s", value_name = "DURATION", value_parser = duration)]
    pub(crate) drain: Duration,

    #[command(flatten)]
    pub(crate) secure: SecureArgs,
}

/// What `--tracing` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tracing {
    /// No spans, and nothing is passed on.
    Off,
    /// Spans, and W3C trace context. Where a request has none, a trace begins.
    W3c,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    /// The HTTP side of a running node.
    #[arg(
        long,
        env = "GROUPCACHE_NODE",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) node: String,

    /// The authorities whose certificate is trusted in a node at https://, in PEM.
    #[arg(long, env = "GROUPCACHE_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// The name that the node's certificate is for, where that is not its host.
    #[arg(long, env = "GROUPCACHE_TLS_SERVER_NAME", value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,

    /// The file that holds the token to send, where the node wants one: the first line counts.
    #[arg(long, env = "GROUPCACHE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// How long to wait for the whole answer.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// The group's name.
    #[arg(value_parser = group_name)]
    pub(crate) group: String,

    /// The key, as it is: nothing in it is escaped or decoded. Write `--` before a key that begins with a hyphen.
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) key: String,

    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Print the node's own JSON.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RingArgs {
    #[command(flatten)]
    pub(crate) show: ShowArgs,

    /// Ask no node: compute the ring of these members.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...", requires = "keys", conflicts_with = "json")]
    pub(crate) members: Vec<String>,

    /// The members' weights, in the same order. All 1 when not given.
    #[arg(long, value_delimiter = ',', value_name = "N,...", requires = "members")]
    pub(crate) weights: Vec<u32>,

    /// How keys are placed: `slots/1` or `go-seed`.
    #[arg(long, default_value = "slots/1", value_name = "SCHEME", value_parser = placement)]
    pub(crate) placement: Placement,

    /// Keys to find the owners of.
    #[arg(value_name = "KEY", requires = "members")]
    pub(crate) keys: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The file, in TOML.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `NAME=SOURCE` of `--group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupArg {
    pub(crate) name: String,
    pub(crate) source: Source,
}

/// `--hot-keys`: one look-up in how many is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HotKeys(pub(crate) Option<NonZeroU32>);

fn hot_keys(text: &str) -> Result<HotKeys, String> {
    if text == "off" {
        return Ok(HotKeys(None));
    }
    text.parse()
        .map(|one_in| HotKeys(Some(one_in)))
        .map_err(|_| "expected a number from 1, or `off`".to_owned())
}

fn group(text: &str) -> Result<GroupArg, String> {
    let (name, source) = text
        .split_once('=')
        .ok_or_else(|| "expected NAME=SOURCE, such as files=file:. or img=https://host/prefix/".to_owned())?;
    Ok(GroupArg { name: group_name(name)?, source: source.parse()? })
}

fn group_name(name: &str) -> Result<String, String> {
    match name {
        "" => Err("a group's name is not empty".to_owned()),
        "-" => Err("`-` is not a group: /-/ holds the node's own pages".to_owned()),
        _ if name.contains('/') => {
            Err("a group's name has no `/`: it is the first segment of the path".to_owned())
        }
        _ => Ok(name.to_owned()),
    }
}

fn host_port(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or("expected HOST:PORT, such as 127.0.0.1:6324")?;
    if host.is_empty() {
        return Err("the host is missing: expected HOST:PORT".to_owned());
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an IPv6 host stands in brackets: [::1]:6324".to_owned());
    }
    port.parse::<u16>().map_err(|_| format!("`{port}` is not a port: ports go from 0 to 65535"))?;
    Ok(text.to_owned())
}

fn size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err("must be more than 0 bytes".to_owned()),
        Ok(size) => Ok(size),
        Err(error) => Err(format!("{error}: expected a size such as 64MiB, 1GiB or 500kB")),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match grace(text)? {
        Duration::ZERO => Err("must be longer than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration that may be none.
fn grace(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}: expected a duration such as 500ms, 30s or 5m"))
}

fn placement(text: &str) -> Result<Placement, String> {
    text.parse::<Placement>().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn serve(args: &[&str]) -> Result<ServeArgs, clap::Error> {
        match Cli::try_parse_from([&["groupcache", "serve"], args].concat())?.command {
            Command::Serve(args) => Ok(*args),
            other => panic!("not serve: {other:?}"),
        }
    }

    fn refusal(args: &[&str]) -> String {
        serve(args).map(|args| format!("{args:?}")).expect_err("refused").to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_flags_mean_one_node_that_serves_the_current_directory() {
        let args = serve(&[]).unwrap();
        assert_eq!((args.addr.as_str(), args.http.as_str()), ("127.0.0.1:6324", "127.0.0.1:8080"));
        assert_eq!(args.groups, [group("files=file:.").unwrap()]);
        assert_eq!((args.budget, args.max_value), (ByteSize::mib(64), ByteSize::mib(16)));
        assert!(args.peers.is_empty() && args.etcd.is_empty() && args.ttl.is_none());
    }

    #[test]
    fn sizes_durations_and_lists_read_as_people_write_them() {
        let args = serve(&["--budget", "1GiB", "--ttl", "1m 30s", "--peers", "a:1,[::1]:2,c:3"]).unwrap();
        assert_eq!(args.budget, ByteSize::gib(1));
        assert_eq!(args.ttl, Some(Duration::from_secs(90)));
        assert_eq!(args.peers, ["a:1", "[::1]:2", "c:3"]);
    }

    #[test]
    fn groups_may_be_repeated_and_a_source_may_contain_an_equals_sign() {
        let args = serve(&["--group", "a=file:/srv/x=y", "--group", "b=http://h/p/"]).unwrap();
        assert_eq!(args.groups.len(), 2);
        assert_eq!(args.groups[0].source, Source::Files("/srv/x=y".into()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        for (args, reason) in [
            (&["--peers", "a:1", "--etcd", "http://e:2379"][..], "cannot be used with"),
            (&["--peers", "a:1", "--dns", "n:1"], "cannot be used with"),
            (&["--etcd", "http://e:2379", "--dns-srv", "n"], "cannot be used with"),
            (&["--dns", "n:1", "--dns-srv", "n"], "cannot be used with"),
            (&["--dns", "n"], "expected HOST:PORT"),
            (&["--dns-server", "localhost"], "invalid socket address"),
            (&["--addr", "6324"], "expected HOST:PORT"),
            (&["--addr", "::1:6324"], "in brackets"),
            (&["--http", "h:99999"], "not a port"),
            (&["--group", "files"], "expected NAME=SOURCE"),
            (&["--group=-=file:."], "not a group"),
            (&["--group", "a/b=file:."], "no `/`"),
            (&["--group", "=file:."], "not empty"),
            (&["--group", "a=ftp://h/"], "file:DIR"),
            (&["--group", "a=http://h/p/?q=1"], "query"),
            (&["--budget", "much"], "such as 64MiB"),
            (&["--budget", "0"], "more than 0"),
            (&["--ttl", "soon"], "such as 500ms"),
            (&["--placement", "modulo"], "slots/1"),
            (&["--weight", "0"], "0 is not in"),
            (&["--hot-keys", "0"], "`off`"),
        ] {
            let said = refusal(args);
            assert!(said.contains(reason), "{args:?} said: {said}");
        }
    }

    #[test]
    fn etcd_is_in_the_help_of_every_build() {
        let mut command = Cli::command();
        let serve = command.find_subcommand_mut("serve").expect("serve");
        let help = serve.render_long_help().to_string();
        assert!(help.contains("--etcd") && help.contains("--features etcd"), "{help}");
        assert!(help.contains("[default: 64MiB]"), "{help}");
    }
}
