//! The adapters' examples that people copy: each is run as it is, and asked over HTTP. (The core's are run by the core's tests.)

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use groupcache_tests::http::{Response, request};
use groupcache_tests::{Process, Signal, ensure, example, poll_until, reserve};
use serde_json::Value;
use tempfile::TempDir;

const START: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(20);

const ON_TOKIO: (&str, &str) = ("groupcache-tokio", "axum_service");
const ON_ASYNC_STD: (&str, &str) = ("groupcache-async-std", "http_service");
const WITH_A_DATABASE: (&str, &str) = ("groupcache-tokio", "sqlite_scores");

/// A running example, asked over its HTTP side.
struct Service {
    process: Process,
    http: SocketAddr,
}

impl Service {
    fn start((package, name): (&str, &str), addr: &str, args: &[&str]) -> Self {
        let mut command = Command::new(example(package, name));
        command.args(["--addr", addr, "--http", "127.0.0.1:0"]).args(args);
        let mut process = Process::spawn(format!("{name} {addr}"), &mut command);
        let http = process.wait_line(START, |line| {
            let (http, peers) =
                line.strip_prefix("scores at http://")?.split_once("/scores/Tom (peers at ")?;
            assert!(addr.ends_with(":0") || peers == format!("{addr})"), "{line}");
            http.parse().ok()
        });
        Self { process, http }
    }

    fn ask(&self, method: &str, target: &str) -> Response {
        request(self.http, method, target).expect("an answer")
    }

    fn stats(&self) -> Value {
        self.ask("GET", "/stats").expect(200).json()
    }

    fn queries(&self) -> u64 {
        self.stats()["queries"].as_u64().expect("a count")
    }

    fn members_up(&self) -> usize {
        let stats = self.stats();
        let members = stats["members"].as_array().expect("members");
        members.iter().filter(|member| member["up"] == true).count()
    }

    fn ends_in_order(mut self) {
        self.process.signal(Signal::Terminate);
        assert_eq!(self.process.wait_exit(SOON).code(), Some(0), "{}", self.process.log());
    }
}

/// Thirty clients at once, by turns at each of `services`; what each is told.
fn thirty_at_once(services: &[&Service], target: &str) -> Vec<Response> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..30)
            .map(|client| {
                let service = services[client % services.len()];
                scope.spawn(move || service.ask("GET", target))
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    })
}

/// Two services, of one kind or of two, are one fleet: each score is read from the database once, missing ones too, and again after a removal.
fn two_are_a_fleet(kinds: [(&str, &str); 2]) {
    let addrs = [(); 2].map(|()| format!("127.0.0.1:{}", reserve()));
    let peers = addrs.join(",");
    let first = Service::start(kinds[0], &addrs[0], &["--peers", &peers]);
    let second = Service::start(kinds[1], &addrs[1], &["--peers", &peers]);
    let both = [&first, &second];
    poll_until("both have met", SOON, || {
        let up = both.map(Service::members_up);
        ensure(up == [2, 2], || format!("{up:?} are up"))
    });
    let queries = || both.map(Service::queries).iter().sum::<u64>();
    for answer in thirty_at_once(&both, "/scores/Tom") {
        assert_eq!(answer.expect(200).text(), "630");
    }
    assert_eq!(queries(), 1, "thirty clients of two services");
    let levels = both.map(|service| service.ask("GET", "/scores/Tom").expect(200).level().to_owned());
    assert!(
        levels.iter().all(|level| ["cached", "hot copy", "its owner"].contains(&level.as_str())),
        "{levels:?}"
    );
    for service in both {
        let missing = service.ask("GET", "/scores/Nobody").expect(404);
        assert!(missing.text().contains("not found"), "{}", missing.text());
    }
    assert_eq!(queries(), 2, "a missing score");
    let removed = second.ask("DELETE", "/scores/Tom").expect(200).json();
    assert_eq!(removed["unacknowledged"], serde_json::json!([]));
    for service in both {
        assert_eq!(service.ask("GET", "/scores/Tom").expect(200).text(), "630");
    }
    assert_eq!(queries(), 3, "once more after the removal");
    let _ = first.ask("GET", "/elsewhere").expect(404);
    first.ends_in_order();
    assert_eq!(second.ask("GET", "/scores/Sam").expect(200).text(), "567");
    second.ends_in_order();
}

#[test]
fn the_service_on_axum_reads_each_score_once_for_the_fleet() {
    two_are_a_fleet([ON_TOKIO, ON_TOKIO]);
}

#[test]
fn the_service_on_async_std_reads_each_score_once_for_the_fleet() {
    two_are_a_fleet([ON_ASYNC_STD, ON_ASYNC_STD]);
}

#[test]
fn services_on_either_runtime_are_one_fleet() {
    two_are_a_fleet([ON_TOKIO, ON_ASYNC_STD]);
}

fn with_a_database(file: &Path) -> Service {
    Service::start(WITH_A_DATABASE, "127.0.0.1:0", &["--database", file.to_str().expect("UTF-8")])
}

#[test]
fn scores_in_sqlite_are_read_once_and_anew_after_an_update() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("scores.sqlite");
    let service = with_a_database(&file);
    for answer in thirty_at_once(&[&service], "/scores/Tom") {
        assert_eq!(answer.expect(200).text(), "630");
    }
    assert_eq!(service.queries(), 1, "thirty clients");
    assert_eq!(service.ask("PUT", "/scores/Tom/640").expect(200).text(), "Tom has 640");
    for _ in 0..3 {
        assert_eq!(service.ask("GET", "/scores/Tom").expect(200).text(), "640");
    }
    assert_eq!(service.queries(), 2, "once more after the update");
    for _ in 0..3 {
        let _ = service.ask("GET", "/scores/Nobody").expect(404);
    }
    assert_eq!(service.queries(), 3, "a missing row is an answer, and kept");
    let _ = service.ask("PUT", "/scores/Nobody/1").expect(200);
    assert_eq!(service.ask("GET", "/scores/Nobody").expect(200).text(), "1", "what was missing is there");
    let _ = service.ask("PUT", "/scores/Tom/many").expect(400);
    service.ends_in_order();

    let again = with_a_database(&file);
    assert_eq!(again.ask("GET", "/scores/Tom").expect(200).text(), "640", "the file stays");
    assert_eq!(again.ask("GET", "/scores/Jack").expect(200).text(), "589");
    again.ends_in_order();
}

#[test]
fn the_tour_of_the_database_says_what_its_questions_cost() {
    let output =
        Command::new(example(WITH_A_DATABASE.0, WITH_A_DATABASE.1)).arg("--tour").output().expect("it runs");
    let (told, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{log}");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "100 callers at once ask for Tom: 1 in the database",
            "Tom gets 640 points, and is asked for twice: 1 in the database",
            "10 callers ask for Nobody: 1 in the database",
            "Nobody gets a point, and is found: 1 in the database",
        ]
    );
    assert!(
        lines[4].starts_with("the database is closed: ") && lines[4].contains("closed pool"),
        "{}",
        lines[4]
    );
}

#[test]
fn every_example_explains_itself() {
    for (package, name) in [ON_TOKIO, ON_ASYNC_STD, WITH_A_DATABASE] {
        let output = Command::new(example(package, name)).arg("--help").output().expect("it runs");
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}");
        for taught in ["--addr", "--peers", "--http", "curl", "/scores/Tom", "/stats"] {
            assert!(help.contains(taught), "{name} --help says nothing of {taught}:\n{help}");
        }
    }
}
