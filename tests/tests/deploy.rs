//! What is there to run a node in production: the settings, the unit, the container and the manifest, as far as they can be checked without
//! installing them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use groupcache_runtime::metrics::{METRICS, Metric, MetricKind};
use groupcache_tests::{Node, NodeOptions, groupcache, python, repository};
use serde_json::Value;
use tempfile::TempDir;

fn deploy(file: &str) -> PathBuf {
    repository().join("runtime-tokio/deploy").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(deploy(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn check(settings: &str) -> Output {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("groupcache.toml");
    fs::write(&file, settings).expect("a file");
    Command::new(groupcache()).arg("check").arg(&file).output().expect("the binary runs")
}

fn assert_fine(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn assert_probes_answer(paths: &[&str]) {
    let directory = TempDir::new().expect("a directory");
    let node = Node::start(&NodeOptions::new().directory(directory.path()));
    node.wait_ready();
    for path in paths {
        let _ = node.request("GET", path).expect(200);
    }
}

#[test]
fn the_settings_to_start_from_have_no_mistakes() {
    assert_fine(&check(&read("groupcache.toml")));
}

#[test]
fn systemd_takes_the_unit() {
    let directory = TempDir::new().expect("a directory");
    let unit = directory.path().join("groupcache.service");
    let installed = "/usr/local/bin/groupcache";
    let text = read("groupcache.service");
    assert!(text.contains(installed));
    fs::write(&unit, text.replace(installed, groupcache().to_str().expect("a path"))).expect("a file");
    let output = Command::new("systemd-analyze")
        .args(["--man=no", "verify"])
        .arg(&unit)
        .output()
        .expect("systemd-analyze can be run; Debian: apt-get install systemd");
    // It succeeds in spite of what it does not know, and says so.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_units_settings_are_where_it_looks_for_them_and_its_patience_is_longer_than_a_drain() {
    let (unit, settings) = (read("groupcache.service"), read("groupcache.toml"));
    let after = |text: &str, start: &str| {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}"));
        line[start.len()..].trim_matches('"').to_owned()
    };
    assert!(after(&unit, "ExecStart=").ends_with("serve --config /etc/groupcache.toml"));
    let seconds = |text: String| text.trim_end_matches('s').parse::<u64>().expect("seconds");
    // What is in progress, then the last answers, then etcd.
    assert!(seconds(after(&unit, "TimeoutStopSec=")) >= seconds(after(&settings, "drain = ")) + 5);
}

#[test]
fn kubernetes_takes_the_manifest_and_a_node_answers_what_it_asks() {
    let output = Command::new(python())
        .arg(repository().join("tests/python/manifests.py"))
        .arg(deploy("kubernetes/groupcache.yaml"))
        .output()
        .expect("python runs");
    assert_fine(&output);
    let manifests: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = |kind: &str| manifests.iter().find(|manifest| manifest["kind"] == kind).expect(kind);

    let settings = of("ConfigMap")["data"]["groupcache.toml"].as_str().expect("settings").to_owned();
    assert_fine(&check(&settings));

    let pod = &of("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    let args: Vec<&str> =
        container["args"].as_array().expect("args").iter().filter_map(Value::as_str).collect();
    assert_eq!(args, ["serve", "--config", "/etc/groupcache/groupcache.toml"]);
    let probes = ["startupProbe", "readinessProbe", "livenessProbe"];
    let mut paths =
        probes.map(|probe| container[probe]["httpGet"]["path"].as_str().expect("a path")).to_vec();
    let annotations = &of("Deployment")["spec"]["template"]["metadata"]["annotations"];
    paths.push(annotations["prometheus.io/path"].as_str().expect("a path"));
    let port = container["ports"].as_array().expect("ports").iter().find(|port| port["name"] == "http");
    let port = port.expect("a port")["containerPort"].to_string();
    assert_eq!(annotations["prometheus.io/port"], port.as_str());
    assert_probes_answer(&paths);
}

#[test]
fn the_dashboard_asks_only_for_metrics_and_labels_that_there_are() {
    let dashboard: Value = serde_json::from_str(&read("grafana.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("a number")).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has a number of its own");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let variables = dashboard["templating"]["list"].as_array().expect("variables").iter();
    let of_panels = targets.map(|target| target["expr"].as_str().expect("a query"));
    let of_variables = variables.filter_map(|variable| variable["query"]["query"].as_str());
    let queries: Vec<&str> = of_panels.chain(of_variables).collect();
    assert!(queries.len() > 40, "{}", queries.len());
    queries.iter().for_each(|query| check_query(query));
    let shown = |metric: &&&Metric| queries.iter().any(|query| query.contains(metric.name));
    let left_out: Vec<_> = METRICS.iter().filter(|metric| !shown(metric)).map(|metric| metric.name).collect();
    assert!(left_out.len() * 3 < METRICS.len(), "most of what there is shows: {left_out:?}");
}

/// Every name that begins as ours do is a metric, or a part of a histogram; every label is one of those, or of the scraper.
fn check_query(query: &str) {
    let words = |text: &str| -> Vec<String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        text.split(|c| !is_name(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let mut labels = BTreeSet::from(["instance", "le"]);
    let mut names = 0;
    for name in words(query).iter().filter(|word| word.starts_with("groupcache_")) {
        let part = ["_bucket", "_sum", "_count"].into_iter().find_map(|part| name.strip_suffix(part));
        let metric = METRICS.iter().find(|metric| {
            let is_histogram = metric.kind == MetricKind::Histogram;
            if is_histogram { part == Some(metric.name) } else { metric.name == name.as_str() }
        });
        labels.extend(metric.unwrap_or_else(|| panic!("`{name}` in `{query}`")).labels);
        names += 1;
    }
    assert!(names > 0, "`{query}` asks for nothing");
    let selected =
        query.split('{').skip(1).filter_map(|rest| rest.split_once('}')).flat_map(|(inside, _)| {
            inside
                .split(',')
                .filter_map(|label| Some(words(label.split_once('=')?.0).concat()))
                .collect::<Vec<_>>()
        });
    let grouped = ["by (", "ignoring ("].into_iter().flat_map(|word| query.split(word).skip(1));
    let grouped = grouped.filter_map(|rest| rest.split_once(')')).flat_map(|(inside, _)| words(inside));
    for label in selected.chain(grouped) {
        assert!(labels.contains(label.as_str()), "label `{label}` in `{query}`");
    }
}

#[test]
fn the_image_runs_as_somebody_and_says_nothing_that_a_node_does_not_understand() {
    let text = read("Dockerfile");
    let last =
        |start: &str| text.lines().rfind(|line| line.starts_with(start)).map(|line| &line[start.len()..]);
    let user = last("USER ").and_then(|user| user.split(':').next()).expect("a user");
    assert!(user.parse::<u32>().is_ok_and(|user| user > 0), "by number, and not root: {user}");
    assert_eq!((last("ENTRYPOINT "), last("CMD ")), (Some("[\"groupcache\"]"), Some("[\"serve\"]")));
    let mut settings = String::new();
    for (name, value) in
        last("ENV ").expect("an environment").split(' ').filter_map(|pair| pair.split_once('='))
    {
        let name =
            name.strip_prefix("GROUPCACHE_").expect("settings of a node").to_lowercase().replace('_', "-");
        settings.push_str(&format!("{name} = \"{value}\"\n"));
    }
    assert_fine(&check(&settings));
}

#[test]
fn the_environment_is_read_and_its_mistakes_are_told() {
    let output = Command::new(groupcache())
        .arg("serve")
        .env("GROUPCACHE_TTL", "soon")
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("soon") && said.contains("--ttl"), "{said}");
}
