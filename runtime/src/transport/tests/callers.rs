//! Who may do what: by identity, and by token.

use std::io;

use groupcache_proto::groupcachepb::GetRequest;
use groupcache_proto::groupcachepb::group_cache_client::GroupCacheClient;

use super::*;
use crate::rt::{BoxFuture, Connection};
use crate::secure::{Accepted, Security};
use crate::tokens::Tokens;

/// Secures nothing, and says that whoever connects is `who`.
#[derive(Debug)]
struct Named(Option<&'static str>);

impl Security for Named {
    fn connect<'a>(
        &'a self,
        _: &'a str,
        io: Box<dyn Connection>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        Box::pin(async { Ok(io) })
    }

    fn accept(&self, io: Box<dyn Connection>) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async {
            let accepted = Accepted::from(io);
            Ok(match self.0 {
                Some("never") => std::future::pending().await,
                Some(who) => accepted.by(PeerIdentity::new(who, move |host| host == who)),
                None => accepted,
            })
        })
    }
}

fn named(who: Option<&'static str>) -> TransportConfig {
    TransportConfig { security: Some(Arc::new(Named(who))), ..config() }
}

fn with_tokens(tokens: &[&str]) -> TransportConfig {
    let tokens = Tokens::new(tokens.iter().copied()).expect("good tokens");
    TransportConfig { tokens: Some(tokens), ..config() }
}

#[tokio::test]
async fn a_removal_of_who_is_known_and_no_member_is_refused_and_a_fetch_is_not() {
    for (who, taken) in [(Some("member.test"), true), (None, true), (Some("stranger.test"), false)] {
        let node = node_with(named(who)).await;
        let peer = PeerChannel::connect(&rt(), &node.addr, "", &named(None)).await.expect("it is let in");
        for _ in 0..2 {
            let removed = peer.invalidate("g", None, SOON).await;
            assert_eq!(removed.is_ok(), taken, "{who:?}: {removed:?}");
            if let Err(PeerFault::Unreachable(why)) = removed {
                assert!(why.to_string().contains("PermissionDenied: only members remove"), "{why}");
            }
        }
        assert_eq!(node.fake.whole_groups.load(Ordering::SeqCst), if taken { 2 } else { 0 });
        assert_eq!(&peer.get_one("g", b"hit", SOON).await.expect("anybody reads")[..], b"hit");
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_given_out_and_whoever_dials_hears_what_is_missing() {
    let node = node_with(with_tokens(&["0123456789abcdef", "fedcba9876543210"])).await;
    for own in ["0123456789abcdef", "fedcba9876543210"] {
        let own = with_tokens(&[own]);
        let peer = PeerChannel::connect(&rt(), &node.addr, "", &own).await.expect("it knows the token");
        assert_eq!(&peer.get_one("g", b"hit", SOON).await.expect("a value")[..], b"hit");
        peer.invalidate("g", Some(b"k"), SOON).await.expect("acknowledged");
    }
    for (own, reason) in
        [(config(), "a token is wanted"), (with_tokens(&["another-of-16-bytes"]), "none of this")]
    {
        let error = PeerChannel::connect(&rt(), &node.addr, "", &own).await.expect_err("no token");
        assert!(error.is_misconfiguration(false), "{error:?}");
        let said = groupcache_core::in_words(&error).to_string();
        assert!(said.contains("Unauthenticated") && said.contains(reason), "{said}");
        assert!(!format!("{error:?} {said}").contains("of-16-bytes"));
    }
}

#[tokio::test]
async fn a_token_of_megabytes_costs_who_sends_it_its_call_and_nobody_else_anything() {
    let node = node_with(with_tokens(&["0123456789abcdef"])).await;
    let origin: http::Uri = format!("http://{}", node.addr).parse().expect("an address");
    for len in [10_000, 1 << 20, 4 << 20] {
        let mut caller = GroupCacheClient::with_origin(faults::raw(&node.addr).await, origin.clone());
        let mut request = tonic::Request::new(GetRequest { group: "g".to_owned(), key: "hit".to_owned() });
        let token = format!("Bearer {}", "x".repeat(len));
        request.metadata_mut().insert("authorization", token.parse().expect("ASCII"));
        let called = tokio::time::timeout(SOON, caller.get(request)).await.expect("in time");
        let status = called.expect_err("no such token");
        assert!(status.code() != Code::Unauthenticated || len == 10_000, "{status:?}");
    }
    let peer = PeerChannel::connect(&rt(), &node.addr, "", &with_tokens(&["0123456789abcdef"])).await;
    assert_eq!(
        &peer.expect("it knows the token").get_one("g", b"hit", SOON).await.expect("a value")[..],
        b"hit"
    );
}

#[tokio::test]
async fn reading_may_be_open_to_all_where_removing_is_not() {
    let mut theirs = with_tokens(&["0123456789abcdef"]);
    theirs.tokens = theirs.tokens.map(|tokens| tokens.only_for_writes(true));
    let node = node_with(theirs).await;
    let peer = PeerChannel::connect(&rt(), &node.addr, "", &config()).await.expect("anybody reads");
    assert_eq!(&peer.get_one("g", b"hit", SOON).await.expect("a value")[..], b"hit");
    let removed = peer.invalidate("g", None, SOON).await.expect_err("no token");
    assert!(matches!(&removed, PeerFault::Unreachable(why) if why.to_string().contains("Unauthenticated")));
    assert_eq!(node.fake.whole_groups.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn connections_that_are_being_secured_are_bounded_in_number_and_more_are_closed_at_once() {
    let node = node_with(TransportConfig { max_handshakes: 2, ..named(Some("never")) }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(tokio::net::TcpStream::connect(&node.addr).await.expect("it listens"));
    }
    eventually(|| node.server.connections() == 2).await;
    let error = PeerChannel::connect(&rt(), &node.addr, "", &config()).await.expect_err("one too many");
    assert!(!matches!(error, TransportError::Timeout { .. }), "{error}");
    eventually(|| node.server.connections() == 2).await;
    assert_eq!(held.len(), 2, "who was there before is still waited for");
}
