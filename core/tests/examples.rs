//! The examples that people copy: each is run as it is, and their protocol is held against garbage.

// What is absent in a harness is a failed test.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // The examples use all of it.
#[path = "../examples/common/wire.rs"]
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use groupcache_core::{Failure, FailureKind, Value};
use wire::{Asked, Frames, Garbled, Message};

/// Each example takes three seconds.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn the_example_that_blocks_runs_its_fleet() {
    run("blocking");
}

#[test]
fn the_example_that_polls_runs_its_fleet() {
    run("polling");
}

fn run(example: &str) {
    let program = program(example);
    let mut command = Command::new(&program);
    // What it tells fits into the pipes: nobody has to read while it runs.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= until {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(10));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let (told, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{example}, killed after {LIMIT:?} at the latest: {status}\n{told}\n{errors}");
    assert!(told.ends_with("All of it was so.\n"), "{example}:\n{told}\n{errors}");
}

/// Examples are built beside the tests, into `examples`, next to the `deps` that this runs from: by `cargo test`, and not by `cargo test --test`.
/// Then they are as old as their last build, and prove nothing.
fn program(example: &str) -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let examples = me.parent().and_then(Path::parent).unwrap().join("examples");
    let program = examples.join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
    let sources = fs::read_to_string(examples.join(format!("{example}.d")));
    let sources = sources.expect("`cargo build --examples` has made the examples");
    let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let built = modified(&program);
    // As in a makefile: the program, a colon, and what it was made from, with spaces in names escaped.
    let mut sources = sources.lines().flat_map(|line| line.split(": ").skip(1)).flat_map(|of| {
        let names = of.replace("\\ ", "\0");
        names.split(' ').map(|name| PathBuf::from(name.replace('\0', " "))).collect::<Vec<_>>()
    });
    let is_current = built.is_some() && sources.all(|source| modified(&source) <= built);
    assert!(
        is_current,
        "{} is not there or out of date: `cargo build --examples` makes it",
        program.display()
    );
    program
}

fn every_message() -> Vec<Message> {
    let asked = |key: &[u8]| Asked {
        group: "scores".into(),
        key: key.to_vec(),
        patience: Duration::from_millis(1500),
    };
    let failures = FailureKind::ALL.map(|kind| Err(Failure::with_message(kind, "wörds")));
    let values = [Ok((Value::from(&b"v"[..]), None)), Ok((Value::from(vec![]), Some(Duration::MAX / 2)))];
    let results = (0..).zip(values.into_iter().chain(failures)).collect();
    vec![
        Message::Hello { name: "127.0.0.1:6324".into() },
        Message::Fetch { tag: u64::MAX, keys: vec![asked(b""), asked(b"\xff\0"), asked(&[7; 1000])] },
        Message::Fetch { tag: 0, keys: vec![] },
        Message::Cancel { tag: 1 },
        Message::Replies { tag: 2, last: true, results },
        Message::Replies { tag: 2, last: false, results: vec![] },
        Message::Invalidate { tag: 3, group: "scores".into(), key: Some(b"key".to_vec()) },
        Message::Invalidate { tag: 4, group: "scores".into(), key: None },
        Message::Forgotten { tag: 5 },
    ]
}

#[test]
fn messages_arrive_as_they_were_sent_however_they_were_cut() {
    let sent = every_message();
    let bytes: Vec<u8> = sent.iter().flat_map(Message::encode).collect();
    for step in [1, 2, 3, 7, 100, bytes.len()] {
        let (mut frames, mut arrived) = (Frames::default(), Vec::new());
        for part in bytes.chunks(step) {
            frames.push(part);
            while let Some(message) = frames.next().unwrap() {
                arrived.push(message.encode());
            }
        }
        assert_eq!(arrived, sent.iter().map(Message::encode).collect::<Vec<_>>());
    }
}

#[test]
fn a_message_that_ends_early_or_late_is_refused() {
    for message in every_message() {
        let frame = message.encode();
        for length in 0..frame.len() - 4 {
            let mut short = frame[..4 + length].to_vec();
            short[..4].copy_from_slice(&(length as u32).to_be_bytes());
            assert!(decode(&short).is_err(), "{message:?} cut to {length} bytes");
        }
        let mut long = [&*frame, &[0]].concat();
        long[..4].copy_from_slice(&((frame.len() - 3) as u32).to_be_bytes());
        assert!(decode(&long).is_err(), "{message:?} and more");
    }
}

#[test]
fn garbage_is_refused_or_understood_and_never_panics() {
    let until = Instant::now() + LIMIT;
    let frames: Vec<_> = every_message().iter().map(Message::encode).collect();
    // A linear congruential generator: the same bytes in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let (mut refused, mut understood) = (0, 0);
    for round in 0..20_000 {
        let mut bytes = frames[round % frames.len()].clone();
        for _ in 0..=random(3) {
            // The length in front stays, or there would be nothing to look at.
            let at = 4 + random(bytes.len() - 4);
            bytes[at] = random(256) as u8;
        }
        match decode(&bytes) {
            Ok(_) => understood += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 1000 && understood > 1000, "{refused} refused, {understood} understood");
    assert!(Instant::now() < until, "it takes too long");
}

#[test]
fn nothing_is_reserved_for_what_is_only_claimed() {
    // 2^32 - 1 keys in a few bytes, a key of 4 GiB, and a frame of 4 GiB.
    let claims = [[1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]];
    let key = [&claims[1][..], &[0, 0, 0, 0, 255, 255, 255, 255]].concat();
    for body in [&claims[0][..], &claims[1][..], &key] {
        let frame = [&(body.len() as u32).to_be_bytes()[..], body].concat();
        assert!(decode(&frame).is_err());
    }
    let mut frames = Frames::default();
    frames.push(&[255; 4]);
    assert!(frames.next().is_err());
}

fn decode(frame: &[u8]) -> Result<Option<Message>, Garbled> {
    let mut frames = Frames::default();
    frames.push(frame);
    frames.next()
}
