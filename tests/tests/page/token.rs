//! The page of a node that tells nothing to who has no token.

use std::fs;

use groupcache_tests::{Node, NodeOptions, Origin, ensure};
use tempfile::TempDir;

use super::browser::Browser;

const TOKEN: &str = "the-token-of-the-fleet";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_wants_a_token_shows_nothing_until_it_has_been_given_and_the_tab_remembers_it() {
    let (origin, files) = (Origin::start(), TempDir::new().expect("a directory"));
    let file = files.path().join("token");
    fs::write(&file, TOKEN).expect("a file");
    let options = NodeOptions::new().group("shop", &origin.url());
    let node = Node::spawn(&options.args(["--token-file", &file.display().to_string()]));
    let browser = Browser::open().await;
    browser.goto(&format!("http://{}/", node.http())).await;

    until_it_says(&browser, "a token is wanted").await;
    assert_eq!(browser.text("#gets-all").await, "", "nothing is shown");
    give(&browser, "the-token-of-another-fleet").await;
    until_it_says(&browser, "the node does not know this token").await;
    give(&browser, "жетон").await;
    until_it_says(&browser, "of ASCII only").await;
    give(&browser, TOKEN).await;
    until_figures_are_shown(&browser).await;

    browser.goto(&format!("http://{}/", node.http())).await;
    until_figures_are_shown(&browser).await;
    browser.close().await;
}

/// Types it in and presses the button.
async fn give(browser: &Browser, token: &str) {
    let fill = format!("document.querySelector('#token').value = '{token}'");
    let _nothing = browser.ask(&format!("{fill}; document.querySelector('#ask button').click()")).await;
}

async fn until_it_says(browser: &Browser, what: &str) {
    browser
        .until(&format!("it says `{what}`"), async |page| {
            let state = page.text("#state").await;
            ensure(state.contains(what) && asks(page).await, || state)
        })
        .await;
}

async fn until_figures_are_shown(browser: &Browser) {
    browser
        .until("figures are shown", async |page| {
            let gets = page.text("#gets-all").await;
            ensure(gets.ends_with(" in all") && !asks(page).await, || gets)
        })
        .await;
}

/// Whether the page shows where to give a token.
async fn asks(browser: &Browser) -> bool {
    browser.ask("return document.querySelector('#ask').checkVisibility()").await == true
}
