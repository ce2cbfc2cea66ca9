//! A real browser without a window, driven over WebDriver.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder};
use groupcache_tests::{Process, http as plain};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::{ParseError, Url};

/// A browser on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser, and the driver that it is told by. Dropping it ends both.
pub(crate) struct Browser {
    client: Client,
    driver: Driver,
    _profile: TempDir,
}

/// The process of the driver.
struct Driver {
    process: Process,
    port: u16,
}

impl Driver {
    fn start() -> Self {
        let is_there = |program: &str| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        for (program, package) in [("chromedriver", "chromium-driver"), ("chromium", "chromium")] {
            assert!(
                is_there(program),
                "no {program}: the page is tested in a browser. `./tests/run` installs it, and so does:\n  apt-get install {package}"
            );
        }
        let mut process = Process::spawn("chromedriver", Command::new("chromedriver").arg("--port=0"));
        let port = process.wait_line(PATIENCE, |line| {
            line.rsplit_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        Self { process, port }
    }
}

impl Drop for Driver {
    /// It ends its browsers when it is told to, and would leave them behind when it is killed.
    fn drop(&mut self) {
        let _gone_already = plain::request(([127, 0, 0, 1], self.port).into(), "GET", "/shutdown");
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.process.exit_status().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Browser {
    pub(crate) async fn open() -> Self {
        let driver = Driver::start();
        let profile = TempDir::new().expect("a directory");
        let user_data = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            &user_data,
        ];
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let capabilities: Capabilities = serde_json::from_value(capabilities).expect("an object");
        let url = format!("http://127.0.0.1:{}", driver.port);
        let client = ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&url).await;
        Self { client: client.expect("a browser starts"), driver, _profile: profile }
    }

    pub(crate) async fn goto(&self, url: &str) {
        self.client.goto(url).await.expect("the page loads");
    }

    /// What a function's body answers in the page.
    pub(crate) async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The text of an element; empty where there is none.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let selector = serde_json::to_string(selector).expect("text");
        let text = self.ask(&format!("return document.querySelector({selector})?.textContent ?? ''")).await;
        text.as_str().expect("text").to_owned()
    }

    /// Asks until the answer is right.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut right: impl AsyncFnMut(&Self) -> Result<T, String>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match right(self).await {
                Ok(answer) => return answer,
                Err(why) if Instant::now() >= deadline => panic!("waited in vain until {what}: {why}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Shows the page on a screen of this size, in dark or light colours.
    pub(crate) async fn screen(&self, (width, height): (u32, u32), is_phone: bool, dark: bool) {
        let scale = if is_phone { 2 } else { 1 };
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone });
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.tell("Emulation.setEmulatedMedia", media).await;
    }

    /// What the page has said to its console, warnings and errors only. Asked again, it is what came since.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let said = self.client.issue_cmd(Raw("se/log", json!({ "type": "browser" }))).await.expect("a log");
        let said = said.as_array().expect("a list").iter();
        let of_interest = said.filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG");
        of_interest.map(|entry| entry["message"].to_string()).collect()
    }

    /// Writes what is shown to a file.
    pub(crate) async fn photograph(&self, path: &Path) {
        let picture = self.client.screenshot().await.expect("a screenshot");
        fs::write(path, picture).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    async fn tell(&self, command: &'static str, parameters: Value) {
        let told = Raw("goog/cdp/execute", json!({ "cmd": command, "params": parameters }));
        self.client.issue_cmd(told).await.unwrap_or_else(|error| panic!("{command}: {error}"));
    }

    /// Ends the browser in order.
    pub(crate) async fn close(self) {
        let Self { client, driver, .. } = self;
        client.close().await.expect("the browser ends");
        drop(driver);
    }
}

/// A command that only this browser knows: where it is sent below the session, and what.
#[derive(Debug)]
struct Raw(&'static str, Value);

impl WebDriverCompatibleCommand for Raw {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.1.to_string()))
    }
}
