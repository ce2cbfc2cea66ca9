//! `groupcache top` in a real terminal.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use groupcache_tests::{Node, NodeOptions, Origin, ensure, groupcache, poll_until};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal that nobody sits at: a server of tmux, for this test alone.
struct Terminal {
    socket: PathBuf,
    _directory: TempDir,
}

impl Terminal {
    /// Runs a shell's command in a terminal of this size.
    fn run(command: &str, (width, height): (u32, u32)) -> Self {
        let directory = TempDir::new().expect("a directory");
        let terminal = Self { socket: directory.path().join("tmux"), _directory: directory };
        let (width, height) = (width.to_string(), height.to_string());
        terminal.tell(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "sh",
            "-c",
            command,
        ]);
        terminal
    }

    fn tell(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(&self.socket)
            .args(arguments)
            .env("TERM", "xterm-256color")
            .output();
        let output = output.unwrap_or_else(|error| {
            panic!("no tmux: `top` is tested in a terminal ({error}). `./tests/run` installs it, and so does:\n  apt-get install tmux")
        });
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tell(&["send-keys", key]);
    }

    fn screen(&self) -> String {
        self.tell(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn until(&self, what: &str, right: impl Fn(&str) -> bool) -> String {
        poll_until(what, PATIENCE, || {
            let screen = self.screen();
            ensure(right(&screen), || format!("\n{screen}")).map(|()| screen)
        })
    }

    /// The process that the shell waits for.
    fn foreground(&self) -> u32 {
        let shell = self.tell(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("children");
        children.split_whitespace().next().and_then(|child| child.parse().ok()).expect("a child")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _gone = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

/// What is typed at a shell: top, and then how it ended and whether the terminal takes lines again.
fn command(nodes: &[&Node]) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("http://{}", node.http())).collect();
    format!(
        "{} top --every 200ms --fleet {}; echo left with $?; stty -a | grep -o ' icanon'; exec cat",
        groupcache().display(),
        nodes.join(",")
    )
}

#[test]
fn top_shows_nodes_at_work_turns_between_them_fits_and_leaves_the_terminal_as_it_was() {
    let origin = Origin::start();
    let options = NodeOptions::new().group("web", &origin.url());
    let nodes = [Node::start(&options), Node::start(&options)];
    let terminal = Terminal::run(&command(&[&nodes[0], &nodes[1]]), (80, 24));
    for _ in 0..30 {
        let _ = nodes[0].get("web", "k\u{1b}[31m").expect(200);
    }
    origin.behave("broken", groupcache_tests::Behaviour::Status(500));
    let _ = nodes[0].get("web", "broken").expect_error(502, "origin_failed");
    let screen = terminal.until("figures, the hottest key and the error are shown", |screen| {
        let whole =
            ["gets", "hit ratio", "100.0%", "own keys", "web/k", "origin failed", "q leave", nodes[0].addr()];
        whole.iter().all(|part| screen.contains(part)) && screen.contains("31 ╮")
    });
    assert!(screen.contains("web/k\\u{1b}"), "a key does nothing to the terminal: {screen}");
    assert_eq!(screen.lines().count(), 24, "{screen}");

    terminal.press("Tab");
    terminal.until("the other node is shown", |screen| {
        screen.contains(nodes[1].addr()) && screen.contains("node 2 of 2")
    });
    terminal.press("?");
    terminal
        .until("help is shown", |screen| screen.contains("hold still") && screen.contains("the node before"));
    terminal.press("q");
    terminal.tell(&["resize-window", "-x", "130", "-y", "36"]);
    terminal.until("it takes up the larger terminal", |screen| {
        let widest = screen.lines().map(|line| line.chars().count()).max();
        widest == Some(130) && screen.lines().nth(34).is_some_and(|line| line.starts_with('╰'))
    });
    terminal.tell(&["resize-window", "-x", "40", "-y", "10"]);
    terminal.until("a small one has the most of it", |screen| {
        screen.contains("groupcache top") && screen.contains("gets")
    });
    terminal.press("q");
    terminal.until("q leaves", |screen| screen.contains("left with 0") && screen.contains("icanon"));
}

#[test]
fn a_node_that_dies_is_shown_with_the_reason_and_a_signal_leaves_the_terminal_as_it_was() {
    let origin = Origin::start();
    let mut node = Node::start(&NodeOptions::new().group("web", &origin.url()));
    let terminal = Terminal::run(&command(&[&node]), (80, 24));
    terminal.until("the node is shown", |screen| screen.contains("running"));
    node.kill();
    let screen = terminal.until("that it is away is said", |screen| screen.contains("cannot talk to"));
    assert!(screen.contains(node.addr()), "what was known is shown: {screen}");
    let top = rustix::process::Pid::from_raw(terminal.foreground() as i32).expect("a process");
    rustix::process::kill_process(top, rustix::process::Signal::TERM).expect("it is there");
    terminal
        .until("the signal ends it", |screen| screen.contains("left with 0") && screen.contains("icanon"));
}
