//! Where the programs under test are: named by the environment, or built on first use.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The `groupcache` binary, with etcd support: what `GROUPCACHE_BIN` names, else what cargo builds.
///
/// # Panics
/// When it is not there and cannot be built.
pub fn groupcache() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        named("GROUPCACHE_BIN").unwrap_or_else(|| {
            build(&["-p", "groupcache-tokio", "--features", "etcd", "--bin", "groupcache"], "groupcache")
        })
    })
}

/// The example `node` of the async-std adapter: what `GROUPCACHE_ASYNC_STD_NODE` names, else what cargo builds.
///
/// # Panics
/// When it is not there and cannot be built.
pub(crate) fn async_std_node() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        named("GROUPCACHE_ASYNC_STD_NODE").unwrap_or_else(|| {
            build(&["-p", "groupcache-async-std", "--features", "etcd", "--example", "node"], "node")
        })
    })
}

/// The Python that has grpcio: of the environment that `tests/run` makes.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn python() -> PathBuf {
    let path = repository().join("tests/.venv/bin/python");
    assert!(
        path.exists(),
        "no {}: the tests with a Python client need grpcio. `./tests/run` installs it, and so does:\n  \
         python3 -m venv tests/.venv && tests/.venv/bin/pip install -r tests/python/requirements.txt",
        path.display()
    );
    path
}

/// The root of the repository: where cargo runs this test, else where it was built.
pub fn repository() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        manifest.parent().expect("the tests lie in a directory of the repository").to_owned()
    })
}

fn named(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?);
    assert!(path.is_file(), "{variable} names {}, and there is no such file", path.display());
    Some(path)
}

/// Builds a target of this workspace, with the profile and into the directory of the running test, and answers where it is.
fn build(target: &[&str], name: &str) -> PathBuf {
    let (target_dir, profile) = surroundings();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(repository())
        .args(["build", "--quiet", "--message-format=json-render-diagnostics", "--profile", &profile])
        .arg("--target-dir")
        .arg(&target_dir)
        .args(target)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "`cargo build {}` failed, as said above. (etcd support needs protoc, which ./tests/run installs.)",
        target.join(" ")
    );
    let artifacts = String::from_utf8_lossy(&output.stdout);
    artifacts
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .unwrap_or_else(|| panic!("`cargo build {}` named no executable", target.join(" ")))
}

/// The target directory and the profile of the running test: it lies in `<target>/<profile>/deps/`.
fn surroundings() -> (PathBuf, String) {
    let test = env::current_exe().expect("a test knows where it is");
    let directory =
        test.parent().and_then(Path::parent).expect("cargo puts tests into <target>/<profile>/deps");
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    (directory.parent().unwrap_or(directory).to_owned(), profile.to_owned())
}
