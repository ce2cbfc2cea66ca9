//! What people see nodes at work by: the page at `/` in a real browser, `top` in a real terminal, `why` and `bench`.
//!
//! `GROUPCACHE_SCREENSHOTS=docs cargo test -p groupcache-tests --test page` writes the pictures that README shows.

mod browser;
mod commands;
mod token;
mod top;

use std::path::PathBuf;
use std::time::Duration;

use browser::Browser;
use groupcache_tests::http::Client;
use groupcache_tests::{
    Behaviour, Fleet, Load, Membership, Node, NodeOptions, Origin, ensure, http, repository,
};
use serde_json::Value;

const HOSTILE: &str = "<img src=x onerror=document.title='owned'>";
const HOSTILE_AND_BROKEN: &str = "\"><img src=y onerror=document.title='owned'>";
const DESKTOP: (u32, u32) = (1220, 900);
const PHONE: (u32, u32) = (390, 844);

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_a_fleet_at_work_and_what_goes_wrong_with_it() {
    let origin = Origin::start();
    origin.set_delay(Duration::from_millis(3));
    let mut fleet = Fleet::start(
        3,
        Membership::Peers,
        &NodeOptions::new().group("shop", &origin.url()).args([
            "--hot-ttl",
            "2s",
            "--load-timeout",
            "5m",
            "--origin-stall",
            "5m",
        ]),
    );
    origin.behave("reports/yearly.pdf", Behaviour::Stall);
    origin.behave("reports/broken.pdf", Behaviour::Status(500));
    origin.behave(HOSTILE_AND_BROKEN, Behaviour::Status(500));
    let load = ask_everywhere(&fleet);
    let stalled = stall(&fleet[0]);
    let browser = Browser::open().await;
    browser.screen(DESKTOP, false, false).await;
    browser.goto(&format!("http://{}/", fleet[0].http())).await;

    figures_come_and_go_on_by_themselves(&browser).await;
    browser
        .until("the load that stalls is shown", async |page| {
            let flights = page.text("#flights").await;
            ensure(flights.contains("reports/yearly.pdf"), || flights)
        })
        .await;
    let _ = fleet[0].get("shop", "reports/broken.pdf").expect_error(502, "origin_failed");
    photograph(&browser).await;
    a_hostile_key_is_text(&browser, &fleet[0]).await;
    a_phone_shows_it_all_and_the_dark_is_dark(&browser).await;

    assert!(load.finish().iter().all(|sample| sample.failure.is_none()), "the load went well");
    what_is_shown_is_what_the_node_says(&browser, &fleet[0]).await;
    let name = fleet[2].addr().to_owned();
    fleet[2].kill();
    browser
        .until("the death of a node is shown", async |page| {
            let state = page
                .ask(&format!("return document.querySelector('[data-member=\"{name}\"]').dataset.state"))
                .await;
            ensure(state != "up" && state != "idle", || state.to_string())
        })
        .await;
    assert!(browser.text("#members").await.contains('▲'), "and not by a colour alone");
    assert_eq!(browser.complaints().await, Vec::<String>::new(), "the console is quiet");
    fleet[0].kill();
    browser
        .until("the silence of the node itself is shown", async |page| {
            let state = page.text("#state").await;
            ensure(state.contains("no answer from the node"), || state)
        })
        .await;
    browser.close().await;
    drop(stalled);
}

/// Clients that ask every node for keys, few of them often.
fn ask_everywhere(fleet: &Fleet) -> Load {
    let addresses: Vec<_> = fleet.iter().map(Node::http).collect();
    Load::start(6, Duration::from_millis(4), move |client| {
        let mut node = Client::new(addresses[client % addresses.len()]);
        let mut turn = client as u64 * 7_919;
        move || {
            // What the square of a uniform number picks is picked the more often the smaller it is.
            turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let part = (turn >> 33) as f64 / f64::from(u32::MAX >> 1);
            let key = match (part.powi(4) * 3_000.0) as u32 {
                n if n % 3 == 0 => format!("products/{n}.json"),
                n if n % 3 == 1 => format!("img/{n}/thumb.webp"),
                n => format!("carts/{n}"),
            };
            let answer = node.get("shop", &key).map_err(|error| error.to_string())?;
            ensure(answer.status == 200, || format!("{}: {}", answer.status, answer.text()))
        }
    })
}

/// A caller that waits for a load that does not end.
fn stall(node: &Node) -> std::net::TcpStream {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(node.http()).expect("connects");
    let head = format!("GET {} HTTP/1.1\r\nhost: h\r\n\r\n", http::path("shop", "reports/yearly.pdf"));
    stream.write_all(head.as_bytes()).expect("sends");
    stream
}

fn live(node: &Node) -> Value {
    node.request("GET", "/-/live").expect(200).json()
}

async fn figures_come_and_go_on_by_themselves(browser: &Browser) {
    let first = browser
        .until("the first figures are there", async |page| {
            let gets = page.text("#gets-all").await;
            let rate = page.text("#gets").await;
            ensure(gets.ends_with(" in all") && rate != "–", || format!("{gets} {rate}")).map(|()| gets)
        })
        .await;
    browser
        .until("they go on", async |page| {
            let gets = page.text("#gets-all").await;
            ensure(gets != first, || gets)
        })
        .await;
    let members = browser.ask("return document.querySelectorAll('#members li').length").await;
    assert_eq!(members, 3);
    let pieces = browser.ask("return document.querySelectorAll('#ring path').length").await;
    assert_eq!(pieces, 3, "a piece of the ring for each");
    browser
        .until("latencies of both peers are shown", async |page| {
            let text = page.text("#members").await;
            ensure(text.matches("median").count() == 2, || text)
        })
        .await;
    browser
        .until("the trend is drawn", async |page| {
            let lines = page.ask("return document.querySelectorAll('#gets-spark path').length").await;
            ensure(lines == 2, || lines.to_string())
        })
        .await;
}

async fn a_hostile_key_is_text(browser: &Browser, node: &Node) {
    let title = browser.ask("return document.title").await;
    let _ = node.get("shop", HOSTILE_AND_BROKEN).expect_error(502, "origin_failed");
    let mut client = Client::new(node.http());
    browser
        .until(
            "keys that are markup are shown where they are hot, and where they have failed",
            async |page| {
                // It is hot for as long as it is asked for.
                for _ in 0..200 {
                    let _ = client.get("shop", HOSTILE).expect("answers").expect(200);
                }
                let (hot, errors) = (page.text("#hot").await, page.text("#errors").await);
                let shown = hot.contains(HOSTILE) && errors.contains(HOSTILE_AND_BROKEN);
                ensure(shown, || format!("{hot} {errors}"))
            },
        )
        .await;
    assert_eq!(
        browser.ask("return document.querySelectorAll('img').length").await,
        0,
        "no markup came of it"
    );
    assert_eq!(browser.ask("return document.title").await, title);
}

async fn a_phone_shows_it_all_and_the_dark_is_dark(browser: &Browser) {
    let paper = "return getComputedStyle(document.body).backgroundColor";
    let light = browser.ask(paper).await;
    for (size, is_phone) in [(PHONE, true), ((320, 640), true), ((768, 1024), true), (DESKTOP, false)] {
        browser.screen(size, is_phone, true).await;
        let width = browser.ask("return document.documentElement.scrollWidth").await;
        assert!(
            width.as_u64().is_some_and(|width| width <= size.0.into()),
            "{width} of {} are there",
            size.0
        );
    }
    assert_ne!(browser.ask(paper).await, light);
    browser.screen(DESKTOP, false, false).await;
    assert_eq!(browser.ask(paper).await, light);
}

/// Behind the load the figures stand still: what is shown must be what is said.
async fn what_is_shown_is_what_the_node_says(browser: &Browser, node: &Node) {
    let shown_as = |n: &Value| {
        let digits = n.as_u64().expect("a number").to_string();
        let ends = digits.len() % 3;
        let head = (ends > 0).then(|| digits[..ends].to_owned());
        let groups =
            digits.as_bytes()[ends..].chunks(3).map(|three| String::from_utf8_lossy(three).into_owned());
        head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
    };
    browser
        .until("the page says what the node says", async |page| {
            let said = live(node);
            let expected = format!(
                "{} in all, {} in all",
                shown_as(&said["counters"]["gets"]),
                shown_as(&said["counters"]["loads"])
            );
            let shown = format!("{}, {}", page.text("#gets-all").await, page.text("#loads-all").await);
            ensure(shown == expected, || format!("{shown}, and not {expected}"))
        })
        .await;
    let said = live(node);
    let entries = format!("{} entries", shown_as(&said["counters"]["entries"]));
    assert!(browser.text("#budget-note").await.starts_with(&entries), "{entries}");
    assert!(browser.text("#ring-note").await.contains(said["ring"]["fingerprint"].as_str().expect("text")));
    assert_eq!(browser.text("#node").await, node.addr());
    for member in said["ring"]["members"].as_array().expect("a list") {
        let share = member["share"].as_f64().expect("a number") * 100.0;
        let row =
            browser.text(&format!("[data-member=\"{}\"] .num", member["name"].as_str().expect("text"))).await;
        let shown: f64 = row.trim_end_matches(" %").parse().expect("a number");
        assert!((shown - share).abs() < 0.06, "{row} is shown of {share}");
    }
}

/// The pictures for README, where they are asked for.
async fn photograph(browser: &Browser) {
    let Some(directory) = std::env::var_os("GROUPCACHE_SCREENSHOTS") else { return };
    let directory: PathBuf = repository().join(directory);
    // A minute of history is what the trends show.
    tokio::time::sleep(Duration::from_secs(45)).await;
    for (name, (width, height), is_phone, dark) in
        [("page.png", DESKTOP, false, false), ("page-phone.png", PHONE, true, true)]
    {
        browser.screen((width, height), is_phone, dark).await;
        let whole =
            browser.ask("return Math.ceil(document.documentElement.getBoundingClientRect().height)").await;
        let whole = whole.as_u64().and_then(|whole| u32::try_from(whole).ok()).unwrap_or(height);
        browser.screen((width, if is_phone { whole.min(1_150) } else { whole }), is_phone, dark).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        browser.photograph(&directory.join(name)).await;
    }
    browser.screen(DESKTOP, false, false).await;
}
