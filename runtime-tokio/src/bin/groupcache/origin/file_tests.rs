//! The directory origin on a real file system: what it gives, and what it must never give.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use groupcache_runtime::ByteView;
use http::header::{CONTENT_TYPE, ETAG, LAST_MODIFIED};
use tempfile::TempDir;

use super::file::Files;
use super::{Again, Answer, Fault, OriginError};

const LIMIT: usize = 4 << 20;

/// A directory `root` to serve, beside a file `secret` that must not be served.
struct World {
    _dir: TempDir,
    root: std::path::PathBuf,
    files: Files,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        let files = Files::open(&root, LIMIT).unwrap();
        Self { _dir: dir, root, files }
    }

    fn write(&self, name: &str, value: impl AsRef<[u8]>) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value).unwrap();
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, String> {
        match self.files.load(key).await {
            Ok(value) => Ok(value.to_vec()),
            Err(OriginError::NotFound) => Err("not found".to_owned()),
            Err(OriginError::InvalidKey(_)) => Err("invalid key".to_owned()),
            Err(OriginError::TooLarge(limit)) => Err(format!("over {limit}")),
            Err(OriginError::Failed(fault)) => Err(format!("failed: {}", crate::report::chain(&*fault))),
        }
    }

    async fn assert_refused(&self, key: &str, why: &str) {
        assert_eq!(self.get(key).await, Err(why.to_owned()), "{key:?}");
    }
}

#[tokio::test]
async fn files_come_back_byte_for_byte() {
    let world = World::new();
    let large: Vec<u8> = (0..3 << 20).map(|n: u32| n.to_le_bytes()[n as usize % 3]).collect();
    let names =
        ["plain", "a/b/c.txt", "name with spaces", "ключ-鍵.txt", "back\\slash", "...", ".hidden", "%2e%2e"];
    for name in names {
        world.write(name, name);
        assert_eq!(world.get(name).await.unwrap(), name.as_bytes());
    }
    world.write("empty", "");
    assert_eq!(world.get("empty").await.unwrap(), b"");
    world.write("large", &large);
    assert!(world.get("large").await.unwrap() == large);
}

#[tokio::test]
async fn keys_that_are_no_plain_relative_path_are_invalid() {
    let world = World::new();
    world.write("dir/file", "x");
    let absolute = world.root.join("dir/file");
    for key in [
        "..",
        "../secret",
        "dir/../../secret",
        "dir/..",
        ".",
        "./dir/file",
        "dir/./file",
        "dir//file",
        "/dir/file",
        "dir/file/",
        "",
        "dir/file\0",
        "\0",
        absolute.to_str().unwrap(),
    ] {
        world.assert_refused(key, "invalid key").await;
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_a_file_is_not_found() {
    let world = World::new();
    world.write("dir/file", "x");
    for key in ["missing", "dir/missing", "missing/file", "dir", "dir/file/below", "..\\secret"] {
        world.assert_refused(key, "not found").await;
    }
    world.assert_refused(&"n".repeat(300), "not found").await;
}

#[tokio::test]
async fn a_value_over_the_limit_names_the_limit() {
    let world = World::new();
    world.write("at", vec![1; LIMIT]);
    world.write("over", vec![1; LIMIT + 1]);
    assert_eq!(world.get("at").await.unwrap().len(), LIMIT);
    world.assert_refused("over", &format!("over {LIMIT}")).await;
}

#[test]
fn a_directory_that_is_not_there_is_refused_at_once() {
    let world = World::new();
    world.write("file", "x");
    assert!(Files::open(Path::new("/no/such/dir"), 1).is_err());
    assert!(Files::open(&world.root.join("file"), 1).is_err());
}

#[tokio::test]
async fn a_directory_that_disappears_is_a_failure_and_not_a_missing_key() {
    let world = World::new();
    fs::remove_dir(&world.root).unwrap();
    let error = world.files.load("key").await.expect_err("no directory");
    let OriginError::Failed(fault) = error else { panic!("{error:?}") };
    assert!(matches!(*fault, Fault::Open(_)), "{fault:?}");
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn symlinks_that_stay_inside_are_followed() {
        let world = World::new();
        world.write("dir/file", "value");
        symlink("dir/file", world.root.join("link")).unwrap();
        symlink("../dir", world.root.join("dir/up")).unwrap();
        symlink(world.root.join("dir"), world.root.join("absolute")).unwrap();
        for key in ["link", "dir/up/file", "absolute/file"] {
            assert_eq!(world.get(key).await, Ok(b"value".to_vec()), "{key}");
        }
    }

    #[tokio::test]
    async fn symlinks_that_lead_out_are_never_followed() {
        let world = World::new();
        world.write("dir/file", "value");
        symlink("../secret", world.root.join("out")).unwrap();
        symlink("/etc/passwd", world.root.join("passwd")).unwrap();
        symlink("..", world.root.join("parent")).unwrap();
        symlink("/", world.root.join("slash")).unwrap();
        symlink("../../secret", world.root.join("dir/out")).unwrap();
        symlink("out", world.root.join("chain")).unwrap();
        symlink("../missing", world.root.join("dangling-out")).unwrap();
        for key in ["out", "passwd", "parent/secret", "slash/etc/passwd", "dir/out", "chain", "dangling-out"]
        {
            world.assert_refused(key, "invalid key").await;
        }
        symlink("missing", world.root.join("dangling")).unwrap();
        world.assert_refused("dangling", "not found").await;
        symlink("loop", world.root.join("loop")).unwrap();
        assert!(world.get("loop").await.expect_err("a loop").starts_with("failed"));
    }

    /// Somebody swaps a directory for a link that leads out, over and over, while its file is read: no check can be overtaken.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn swapping_a_directory_for_a_link_that_leads_out_wins_nothing() {
        let world = World::new();
        world.write("a/secret", "inside");
        symlink("..", world.root.join("b")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (root, stopped) = (world.root.clone(), Arc::clone(&stop));
        let swapper = std::thread::spawn(move || {
            let (a, b, c) = (root.join("a"), root.join("b"), root.join("c"));
            while !stopped.load(Ordering::Relaxed) {
                fs::rename(&a, &c).unwrap();
                fs::rename(&b, &a).unwrap();
                fs::rename(&c, &b).unwrap();
            }
        });
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end {
            if let Ok(value) = world.get("a/secret").await {
                assert_eq!(value, b"inside");
            }
        }
        stop.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
    }

    #[tokio::test]
    async fn what_is_not_a_regular_file_is_not_found_and_nothing_waits_for_it() {
        let world = World::new();
        assert!(Command::new("mkfifo").arg(world.root.join("fifo")).status().unwrap().success());
        let _socket = UnixListener::bind(world.root.join("socket")).unwrap();
        for key in ["fifo", "socket"] {
            let refused =
                tokio::time::timeout(Duration::from_secs(5), world.assert_refused(key, "not found"));
            refused.await.expect(key);
        }
    }

    #[tokio::test]
    async fn a_file_that_may_not_be_read_is_a_failure_and_not_a_missing_key() {
        let world = World::new();
        world.write("locked", "x");
        let path = world.root.join("locked");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        if fs::read(&path).is_ok() {
            return; // root may read everything
        }
        assert!(world.get("locked").await.expect_err("locked").starts_with("failed: cannot open the file"));
    }

    /// A file is long, or short, and never anything in between.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_that_is_cut_and_grown_meanwhile_never_gives_a_part_of_itself() {
        const LONG: u64 = 3 << 20;
        const SHORT: u64 = 10;
        let world = World::new();
        world.write("busy", "");
        let busy = fs::OpenOptions::new().write(true).open(world.root.join("busy")).unwrap();
        busy.set_len(LONG).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = std::thread::spawn(move || {
            for round in 0u64.. {
                busy.set_len([SHORT, LONG][round as usize % 2]).unwrap();
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // Pauses of many lengths, so that reads are met everywhere, and some are left alone.
                std::thread::sleep(Duration::from_micros(round % 40 * 100));
            }
        });
        let end = Instant::now() + Duration::from_millis(700);
        let mut whole = 0;
        while Instant::now() < end {
            match world.get("busy").await {
                Ok(value) => {
                    assert!([SHORT, LONG].contains(&(value.len() as u64)), "{} bytes", value.len());
                    whole += 1;
                }
                Err(error) => assert_eq!(error, "failed: the file changed while it was read"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        assert!(whole > 0, "a file that rests in between can be read");
    }
}

/// Files that say 0 bytes and have some: their end is found by reading.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn files_of_the_kernel_are_read_to_their_end_within_the_limit() {
    let files = Files::open(Path::new("/proc"), LIMIT).unwrap();
    let version = files.load("version").await.expect("/proc/version");
    assert_eq!(version.head.get(&ETAG), None, "the system tells nothing that would change with it");
    assert!(version.starts_with(b"Linux"));
    let short = Files::open(Path::new("/proc"), 4).unwrap();
    assert!(matches!(short.load("version").await, Err(OriginError::TooLarge(4))));
}

impl World {
    /// Says of a file that it was written an hour ago and `seconds`.
    fn age(&self, name: &str, seconds: u64) {
        let file = File::options().write(true).open(self.root.join(name)).unwrap();
        let hour = Duration::from_secs(3600 + seconds);
        file.set_modified(SystemTime::now().checked_sub(hour).unwrap()).unwrap();
    }

    async fn load(&self, key: &str) -> Answer {
        self.files.load(key).await.expect("a value")
    }

    async fn revalidate(&self, key: &str, answer: &Answer) -> Result<Again, OriginError> {
        let value = groupcache_core::Value::with_meta(answer, &answer.head.to_meta()).unwrap();
        self.files.revalidate(key, &ByteView::from(value)).await
    }
}

#[tokio::test]
async fn a_file_is_what_its_name_says_and_has_a_validator_of_its_own() {
    let world = World::new();
    for (name, kind) in [
        ("page.html", Some("text/html")),
        ("dir.css/UPPER.PNG", Some("image/png")),
        ("data.json", Some("application/json")),
        ("no-extension", None),
        ("strange.unheard-of", None),
    ] {
        world.write(name, "bytes");
        world.age(name, 0);
        let head = world.load(name).await.head;
        assert_eq!(head.get(&CONTENT_TYPE).map(|kind| kind.to_str().unwrap()), kind, "{name}");
        assert!(head.get(&LAST_MODIFIED).is_some_and(|date| date.to_str().unwrap().ends_with(" GMT")));
        assert!(head.get(&ETAG).is_some_and(|tag| tag.as_bytes().starts_with(b"\"5-")), "{head:?}");
    }
}

#[tokio::test]
async fn a_file_that_has_not_changed_is_not_read_again() {
    let world = World::new();
    world.write("f.txt", "first");
    world.age("f.txt", 10);
    let first = world.load("f.txt").await;
    assert!(matches!(world.revalidate("f.txt", &first).await, Ok(Again::Unchanged { ttl: None })));
    // As long as before: only the time tells.
    world.write("f.txt", "other");
    world.age("f.txt", 5);
    let again = world.revalidate("f.txt", &first).await;
    assert!(matches!(&again, Ok(Again::Changed(answer)) if &**answer == b"other"), "{again:?}");
    fs::remove_file(world.root.join("f.txt")).unwrap();
    assert!(matches!(world.revalidate("f.txt", &first).await, Err(OriginError::NotFound)));
}

#[tokio::test]
async fn a_file_that_was_written_a_moment_ago_is_read_again_for_it_may_change_within_a_tick() {
    let world = World::new();
    world.write("f.txt", "fresh");
    let fresh = world.load("f.txt").await;
    assert!(fresh.head.get(&ETAG).is_some_and(|tag| tag.as_bytes().starts_with(b"W/")), "{fresh:?}");
    assert_eq!(fresh.head.get(&LAST_MODIFIED), None);
    assert!(matches!(world.revalidate("f.txt", &fresh).await, Ok(Again::Changed(_))));
}
