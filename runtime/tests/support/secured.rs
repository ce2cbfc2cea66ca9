//! Two nodes and TLS between them, on whichever runtime: what each adapter's tests run.

use std::future::Future;
use std::io::{self, Read, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use groupcache_runtime::{
    Accepted, BoxFuture, Connection, Group, Level, LinkConfig, ReloadingTls, RetrieveError, Runtime,
    Security, Server, ServerBuilder, TlsConfig, Tokens,
};

use crate::authority::{Authority, Identity};

/// For what should happen at once, on a machine with more to do.
const SOON: Duration = Duration::from_secs(20);

const HOST: &str = "127.0.0.1";

/// A started node, with a group whose loads are counted.
struct Node<R> {
    server: Server<R>,
    group: Group<R>,
    loads: Arc<AtomicUsize>,
}

impl<R: Runtime + Default> Node<R> {
    /// Listens on any port, and knows `peers`. Without a security it speaks plain text.
    async fn start(security: Option<Arc<dyn Security>>, peers: &[String]) -> Self {
        Self::start_with(security, None, peers).await
    }

    async fn start_with(
        security: Option<Arc<dyn Security>>,
        tokens: Option<Tokens>,
        peers: &[String],
    ) -> Self {
        let mut builder: ServerBuilder<R> = Server::<R>::builder().addr(format!("{HOST}:0")).peers(peers);
        if let Some(security) = security {
            builder = builder.security(security);
        }
        if let Some(tokens) = tokens {
            builder = builder.tokens(tokens);
        }
        let server = builder.link(patient()).build().expect("the settings are in range");
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&loads);
        let retriever = move |key: String| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, RetrieveError>(format!("value of {key}")) }
        };
        let group = server.new_group("g", retriever).expect("the first of its name");
        within("a start", server.start()).await.expect("a free port");
        Self { server, group, loads }
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    fn stat(&self, name: &str) -> u64 {
        self.server.stats().get(name).expect("it is counted")
    }

    /// How many members it is connected to, itself included.
    fn reached(&self) -> usize {
        self.server.ring().members.iter().filter(|member| member.up).count()
    }

    /// A key that `owner` owns, by this node's ring.
    fn key_of(&self, owner: &Self) -> String {
        let addr = owner.server.addr();
        let mut keys = (0..1000).map(|index| format!("key {index}"));
        keys.find(|key| self.group.owner(key).as_deref() == Some(&*addr)).expect("it owns about half of them")
    }
}

/// A dial may take long on a machine with more to do: here it is not what ends a test of who is refused.
fn patient() -> LinkConfig {
    let mut link = LinkConfig::default();
    link.connect_timeout = SOON;
    link
}

/// Who runs the test ends what never ends.
async fn within<T>(what: &str, task: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let done = task.await;
    let took = started.elapsed();
    assert!(took < SOON, "{what} took {took:?}");
    done
}

async fn wait_for<R: Runtime + Default>(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen within {SOON:?}\n{}", logged());
        R::default().sleep(Duration::from_millis(5)).await;
    }
}

/// Two nodes that know each other. Whether they reach each other is another matter.
async fn pair<R: Runtime + Default>(
    first: Option<Arc<dyn Security>>,
    second: Option<Arc<dyn Security>>,
) -> [Node<R>; 2] {
    let first = Node::<R>::start(first, &[]).await;
    let second = Node::start(second, &[first.server.addr()]).await;
    assert!(first.server.set_peers([second.server.addr()]));
    wait_for::<R>("a ring of two", || first.server.ring().members.len() == 2).await;
    [first, second]
}

/// Values come from their owners, through certificates that are looked at on both ends, and removals are acknowledged.
pub(crate) async fn a_fleet_over_mutual_tls_serves_remote_gets<R: Runtime + Default>() {
    let authority = Authority::new();
    let [one, other] = [(); 2].map(|()| authority.tls(&authority.sign(HOST)) as Arc<dyn Security>);
    let [first, second] = pair::<R>(Some(one), Some(other)).await;
    for node in [&first, &second] {
        wait_for::<R>("a meeting of two", || node.reached() == 2).await;
    }
    for (asker, owner) in [(&first, &second), (&second, &first)] {
        let key = asker.key_of(owner);
        let before = owner.loads();
        let lookup = within("a get", asker.group.lookup(&key)).await.expect("its owner loads it");
        assert_eq!(lookup.value.as_bytes(), format!("value of {key}").as_bytes());
        assert_eq!((lookup.level, owner.loads()), (Level::Peer, before + 1));
        let report = within("a removal", asker.group.remove(&key)).await.expect("it is carried out");
        assert_eq!(report.unacknowledged, [""; 0]);
        assert!(asker.group.peek(&key).is_none() && owner.group.peek(&key).is_none());
    }
    assert_eq!((first.loads(), second.loads()), (1, 1));
    for node in [first, second] {
        let report = within("a stop", node.server.stop()).await;
        assert!(report.deregistered && report.drained, "{report:?}");
    }
}

/// A certificate for the fleet, in place of one for each address.
pub(crate) async fn one_certificate_with_a_common_name_serves_all_members<R: Runtime + Default>() {
    let authority = Authority::new();
    let shared = authority.sign("members.groupcache.test");
    let named = || {
        let config = authority.config(&shared).server_name("members.groupcache.test");
        Some(Arc::new(config.build().expect("a good configuration")) as Arc<dyn Security>)
    };
    let [first, second] = pair::<R>(named(), named()).await;
    wait_for::<R>("a meeting of two", || first.reached() == 2).await;
    let key = first.key_of(&second);
    let lookup = within("a get", first.group.lookup(&key)).await.expect("its owner loads it");
    assert_eq!((lookup.level, first.loads()), (Level::Peer, 0));
}

/// Nothing crosses between a member and a stranger, and both go on giving values: each from its own origin, in bounded time.
async fn refuse_each_other<R: Runtime + Default>(
    member: Arc<dyn Security>,
    stranger: Option<Arc<dyn Security>>,
    reason: &str,
) {
    start_logging();
    let [member, stranger] = pair::<R>(Some(member), stranger).await;
    for (asker, owner) in [(&member, &stranger), (&stranger, &member)] {
        let key = asker.key_of(owner);
        let value = within("a get", asker.group.get(&key)).await.expect("its own origin has it");
        assert_eq!(value.as_bytes(), format!("value of {key}").as_bytes());
        assert_eq!((asker.loads(), asker.stat("served")), (1, 0));
        let peer = format!("peer={}", owner.server.addr());
        wait_for::<R>("a dial that is refused", || log_has(&[&peer, "cannot come to terms"])).await;
    }
    let its_addr = format!("peer={}", stranger.server.addr());
    wait_for::<R>("a line that says why", || {
        log_has(&[&its_addr, reason]) || log_has(&["refused a connection", reason])
    })
    .await;
    let its_addr = format!("peer={}", member.server.addr());
    wait_for::<R>("a line in which the refused hears it", || {
        log_has(&["WARN", &its_addr, "does not trust this node"])
    })
    .await;
    for node in [&member, &stranger] {
        assert_eq!((node.reached(), node.stat("served")), (1, 0), "{}", logged());
        let report = within("a stop", node.server.stop()).await;
        assert!(report.drained, "{report:?}");
    }
}

/// It could read everything, and remove it.
pub(crate) async fn a_node_without_a_certificate_is_refused<R: Runtime + Default>() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().expect("a directory");
    let member = authority.sign(HOST);
    let (roots, ..) = authority.write(&member, dir.path());
    let nobody = TlsConfig::from_pem_roots(roots).and_then(TlsConfig::build).expect("it can connect");
    let nobody: Arc<dyn Security> = Arc::new(nobody);
    refuse_each_other::<R>(authority.tls(&member), Some(nobody), "cannot be trusted").await;
}

/// It trusts the members' authority, and they do not trust its own.
pub(crate) async fn a_node_with_a_certificate_of_a_foreign_authority_is_refused<R: Runtime + Default>() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let stranger: Arc<dyn Security> = authority.tls(&foreign.sign(HOST));
    refuse_each_other::<R>(authority.tls(&authority.sign(HOST)), Some(stranger), "cannot be trusted").await;
}

/// It was a member.
pub(crate) async fn a_node_with_an_expired_certificate_is_refused<R: Runtime + Default>() {
    let authority = Authority::new();
    let stranger: Arc<dyn Security> = authority.tls(&authority.sign_until(HOST, 2001));
    refuse_each_other::<R>(authority.tls(&authority.sign(HOST)), Some(stranger), "cannot be trusted").await;
}

/// Its certificate is somebody else's.
pub(crate) async fn a_node_with_a_certificate_for_another_host_is_refused<R: Runtime + Default>() {
    let authority = Authority::new();
    let stranger: Arc<dyn Security> = authority.tls(&authority.sign("elsewhere.test"));
    let [member, stranger] = pair::<R>(Some(authority.tls(&authority.sign(HOST))), Some(stranger)).await;
    // Who connects shows no name of its own to be checked: it is refused where it is connected to.
    let key = member.key_of(&stranger);
    let value = within("a get", member.group.get(&key)).await.expect("its own origin has it");
    assert_eq!((value.len(), member.loads(), stranger.loads()), (format!("value of {key}").len(), 1, 0));
    assert_eq!(member.reached(), 1);
}

/// Both ways: who is configured for TLS says in its log what the other side speaks.
pub(crate) async fn a_node_in_plain_text_is_refused_and_the_log_says_what_it_speaks<R: Runtime + Default>() {
    start_logging();
    let authority = Authority::new();
    let member: Arc<dyn Security> = authority.tls(&authority.sign(HOST));
    let [member, plain] = pair::<R>(Some(member), None).await;
    for (asker, owner) in [(&member, &plain), (&plain, &member)] {
        let key = asker.key_of(owner);
        let value = within("a get", asker.group.get(&key)).await.expect("its own origin has it");
        assert_eq!(value.as_bytes(), format!("value of {key}").as_bytes());
        assert_eq!(asker.loads(), 1);
    }
    let peer = format!("peer={}", plain.server.addr());
    wait_for::<R>("lines that say why", || {
        log_has(&["WARN", &peer, "speaks plain text"])
            && log_has(&["WARN", "refused a connection", "speaks plain text"])
    })
    .await;
    assert_eq!((member.reached(), plain.reached()), (1, 1));
}

/// Whoever is let in may read. A removal is taken from who has a member's certificate, or one that is allowed to.
pub(crate) async fn a_removal_is_taken_from_members_only<R: Runtime + Default>() {
    start_logging();
    let authority = Authority::new();
    for (allowed, unacknowledged) in [("somebody.else.test", 1), ("operator.test", 0)] {
        let member = authority.config(&authority.sign(HOST)).allowed_names([allowed]);
        let member: Arc<dyn Security> = Arc::new(member.build().expect("a good configuration"));
        let member = Node::<R>::start(Some(member), &[]).await;
        // It has a ring of two, of which the member knows nothing.
        let operator = authority.tls(&authority.sign("operator.test"));
        let operator = Node::<R>::start(Some(operator), &[member.server.addr()]).await;
        wait_for::<R>("a member that is reached", || operator.reached() == 2).await;
        let key = operator.key_of(&member);
        within("a get", operator.group.get(&key)).await.expect("its owner loads it");
        assert_eq!((member.loads(), operator.loads()), (1, 0));
        let report = within("a removal", operator.group.remove(&key)).await.expect("it is carried out");
        assert_eq!(report.unacknowledged.len(), unacknowledged, "{report:?}");
        assert_eq!(member.group.peek(&key).is_some(), unacknowledged == 1);
        let refused = log_has(&["WARN", "refused a removal", "operator.test"]);
        assert!(refused, "it is told who was refused: {}", logged());
    }
}

/// Without it nothing is given out and nothing removed; both sides are told what is missing.
pub(crate) async fn members_show_their_token_and_who_has_none_is_refused<R: Runtime + Default>() {
    start_logging();
    let tokens = |of: &[&str]| Some(Tokens::new(of.iter().copied()).expect("good tokens"));
    let first =
        Node::<R>::start_with(None, tokens(&["0123456789abcdef-new", "0123456789abcdef-old"]), &[]).await;
    let addr = [first.server.addr()];
    let second =
        Node::<R>::start_with(None, tokens(&["0123456789abcdef-old", "0123456789abcdef-new"]), &addr).await;
    assert!(first.server.set_peers([second.server.addr()]));
    wait_for::<R>("a meeting of two", || first.reached() == 2 && second.reached() == 2).await;
    let key = first.key_of(&second);
    let lookup = within("a get", first.group.lookup(&key)).await.expect("its owner loads it");
    assert_eq!((lookup.level, first.loads()), (Level::Peer, 0));
    let report = within("a removal", first.group.remove(&key)).await.expect("it is carried out");
    assert_eq!(report.unacknowledged, [""; 0]);

    for (its, reason) in
        [(None, "a token is wanted here"), (tokens(&["0123456789abcdef-other"]), "is none of this")]
    {
        let stranger = Node::<R>::start_with(None, its, &addr).await;
        let peer = format!("peer={}", addr[0]);
        wait_for::<R>("lines that say why", || {
            log_has(&["WARN", &peer, "cannot come to terms", reason])
                && log_has(&["WARN", "refused a caller", reason])
        })
        .await;
        let key = stranger.key_of(&first);
        within("a get", stranger.group.get(&key)).await.expect("its own origin has it");
        assert_eq!((stranger.reached(), stranger.loads()), (1, 1));
    }
    assert!(!logged().contains("0123456789abcdef"), "{}", logged());
}

/// Leaf, then authority by way of both: open connections live on, and new ones are made with what is there now.
pub(crate) async fn certificates_that_change_are_read_anew_without_a_restart<R: Runtime + Default>() {
    start_logging();
    let (old, new) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().expect("a directory");
    let put = |roots: &[&Authority], Identity { chain, key }: &Identity| {
        let roots: String = roots.iter().map(|authority| authority.pem()).collect();
        for (name, text) in [("ca.pem", &roots), ("node.pem", chain), ("node.key", key)] {
            std::fs::write(dir.path().join(name), text).expect("a file");
        }
    };
    let files = ["ca.pem", "node.pem", "node.key"].map(|name| dir.path().join(name));
    let watched = || {
        let [roots, chain, key] = files.clone();
        let tls = ReloadingTls::new(move || TlsConfig::from_pem_files(&roots, &chain, &key));
        let tls = tls.expect("files in order");
        tls.watch(&(Arc::new(R::default()) as Arc<dyn Runtime>), Duration::from_millis(50));
        tls
    };
    put(&[&old], &old.sign_until(HOST, 2998));
    let [one, other] = [watched(), watched()];
    let [first, second] = pair::<R>(Some(Arc::new(one.clone())), Some(Arc::new(other.clone()))).await;
    wait_for::<R>("a meeting of two", || first.reached() == 2 && second.reached() == 2).await;
    let before = first.server.certificate_expires().expect("it has a certificate");
    let dials = [first.stat("peer_dials"), second.stat("peer_dials")];

    // A key that is another's: it is told once, by the names of the files, and nothing changes.
    let own = new.sign(HOST);
    put(&[&old, &new], &Identity { chain: own.chain.clone(), key: old.sign(HOST).key });
    wait_for::<R>("a line that says why", || log_has(&["WARN", "stay in use", "node.pem", "node.key"])).await;
    assert_eq!(first.server.certificate_expires(), Some(before));
    put(&[&old, &new], &own);
    wait_for::<R>("new certificates", || {
        [&first, &second].iter().all(|node| node.server.certificate_expires() > Some(before))
    })
    .await;
    put(&[&new], &own);
    assert!(one.reload().is_ok() && other.reload().is_ok());

    // Who trusts the new authority only, and is trusted by it only, meets both.
    let third =
        Node::start(Some(new.tls(&new.sign(HOST))), &[first.server.addr(), second.server.addr()]).await;
    for (node, peer) in [(&first, &second), (&second, &first)] {
        assert!(node.server.set_peers([peer.server.addr(), third.server.addr()]));
    }
    let nodes = [&first, &second, &third];
    wait_for::<R>("a meeting of three", || nodes.iter().all(|node| node.reached() == 3)).await;
    for (asker, owner) in [(&first, &second), (&second, &first), (&first, &third), (&third, &first)] {
        let lookup =
            within("a get", asker.group.lookup(&asker.key_of(owner))).await.expect("its owner has it");
        assert_ne!(lookup.level, Level::Origin);
    }
    let dialled = [first.stat("peer_dials"), second.stat("peer_dials")];
    assert_eq!(dialled, dials.map(|before| before + 1), "the connections of before live on");
    put(&[&new], &new.sign_until(HOST, 2001));
    wait_for::<R>("a line about the end", || log_has(&["ERROR", "certificate has expired"])).await;
}

/// Connections that say nothing, or something and no more, are closed when their time is over; everybody else is served meanwhile, and a stop
/// waits for none of them.
pub(crate) async fn a_handshake_that_never_ends_holds_up_nobody<R: Runtime + Default>() {
    let authority = Authority::new();
    let tls = || Some(authority.tls(&authority.sign(HOST)) as Arc<dyn Security>);
    let first = Node::<R>::start(tls(), &[]).await;
    let addr = first.server.addr();
    let hang = |bytes: &'static [u8]| {
        let addr = addr.clone();
        move || -> io::Result<usize> {
            let mut stream = TcpStream::connect(addr)?;
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(bytes)?;
            match stream.read(&mut [0; 64]) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
                ended => ended,
            }
        }
    };
    // Nothing; and the beginning of a TLS record.
    let silent: Vec<_> =
        (0..20).map(|index| thread::spawn(hang([&b""[..], b"\x16\x03\x01"][index % 2]))).collect();
    wait_for::<R>("twenty connections", || first.stat("peer_connections") == 20).await;

    let second = Node::start(tls(), std::slice::from_ref(&addr)).await;
    assert!(first.server.set_peers([second.server.addr()]));
    wait_for::<R>("a meeting of two", || first.reached() == 2 && second.reached() == 2).await;
    let key = second.key_of(&first);
    let lookup = within("a get", second.group.lookup(&key)).await.expect("its owner loads it");
    assert_eq!((lookup.level, second.loads()), (Level::Peer, 0));

    wait_for::<R>("an end of all of them", || silent.iter().all(thread::JoinHandle::is_finished)).await;
    for stream in silent {
        let read = stream.join().expect("no panic").expect("an end, and not the limit of the read");
        assert_eq!(read, 0, "nothing is said to who says nothing");
    }
    let late = thread::spawn(hang(b""));
    wait_for::<R>("one more connection", || first.stat("peer_connections") == 2).await;
    within("a stop", second.server.stop()).await;
    let report = within("a stop", first.server.stop()).await;
    assert!(report.drained, "{report:?}");
    wait_for::<R>("its end", || late.is_finished()).await;
}

/// Panics at the first connection and at the second, each way, and then secures nothing.
#[derive(Debug, Default)]
struct Panics {
    connected: AtomicUsize,
    accepted: AtomicUsize,
}

impl Panics {
    fn third_time_lucky(count: &AtomicUsize) {
        assert!(count.fetch_add(1, Ordering::SeqCst) > 1, "as the test asks");
    }
}

impl Security for Panics {
    fn connect<'a>(
        &'a self,
        _: &'a str,
        io: Box<dyn Connection>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        Self::third_time_lucky(&self.connected);
        Box::pin(async { Ok(io) })
    }

    fn accept(&self, io: Box<dyn Connection>) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async {
            Self::third_time_lucky(&self.accepted);
            Ok(io.into())
        })
    }
}

/// Whoever waits for a dial hears that it has failed, and dials again.
pub(crate) async fn a_security_that_panics_refuses_and_wedges_nothing<R: Runtime + Default>() {
    let panics = Arc::new(Panics::default());
    let security = || Some(Arc::clone(&panics) as Arc<dyn Security>);
    let [first, second] = pair::<R>(security(), security()).await;
    let key = first.key_of(&second);
    wait_for::<R>("a meeting of two", || first.reached() == 2 && second.reached() == 2).await;
    let lookup = within("a get", first.group.lookup(&key)).await.expect("its owner loads it");
    assert_eq!((lookup.level, first.loads()), (Level::Peer, 0));
    let times = [&panics.connected, &panics.accepted].map(|count| count.load(Ordering::SeqCst));
    assert!(times.iter().all(|&times| times > 2), "{times:?} connections");
}

/// What this process has logged.
#[derive(Clone)]
struct Log;

static LINES: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(Mutex::default);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start_logging() {
    static STARTED: LazyLock<()> = LazyLock::new(|| {
        tracing_subscriber::fmt().with_writer(|| Log).with_ansi(false).init();
    });
    LazyLock::force(&STARTED);
}

fn logged() -> String {
    String::from_utf8_lossy(&LINES.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// Whether a line has all of `parts`.
fn log_has(parts: &[&str]) -> bool {
    logged().lines().any(|line| parts.iter().all(|part| line.contains(part)))
}

/// Makes a test of each.
#[macro_export]
macro_rules! secured {
    ($run:path, $runtime:ty: $($name:ident)*) => {
        $(#[test]
        fn $name() {
            $run(secured::$name::<$runtime>());
        })*
    };
}
