//! What a request says of the trace that it is part of.

use groupcache_proto::groupcachepb::GetRequest;
use groupcache_proto::groupcachepb::group_cache_client::GroupCacheClient;
use tonic::metadata::MetadataValue;

use super::*;

fn context(number: u8) -> TraceContext {
    let parent = format!("00-000000000000000000000000000000{number:02x}-00000000000000{number:02x}-01");
    TraceContext::parse(&parent, Some(&format!("n={number}"))).expect("a context")
}

impl Node {
    fn seen(&self) -> Vec<TraceContext> {
        std::mem::take(&mut self.fake.traces.lock().expect("no test panics there"))
    }
}

#[tokio::test]
async fn one_key_carries_its_trace_in_metadata() {
    let node = node().await;
    let peer = node.connect().await;
    peer.get("g", b"miss", (SOON, Some(&context(1))), || ()).await.expect("a value");
    peer.get_one("g", b"miss", SOON).await.expect("a value");
    assert_eq!(node.seen(), [context(1)]);
}

#[tokio::test]
async fn each_key_of_a_batch_carries_its_own() {
    let node = node().await;
    let peer = node.connect().await;
    let mut request = batch(&["miss one"]);
    request.set_trace(context(2).traceparent(), "n=2");
    request.push("g", &b"miss none"[..], None);
    request.push("g", &b"miss bad"[..], None);
    request.set_trace("00-GARBAGE", "n=3");
    request.push("g", &b"miss state"[..], None);
    request.set_trace(context(4).traceparent(), "a tracestate that is none");
    let mut replies = peer.fetch(request, SOON);
    while let Some(reply) = replies.next().await {
        let _answers = reply.expect("of the peer");
    }
    let mut seen = node.seen();
    seen.sort_by_key(TraceContext::span_id);
    let bare = TraceContext::parse(&context(4).traceparent(), None).expect("a context");
    assert_eq!(seen, [context(2), bare]);
}

#[tokio::test]
async fn metadata_that_is_no_trace_is_as_if_it_were_not_there() {
    let node = node().await;
    let parent = context(5).traceparent();
    let long = "0".repeat(10_000);
    for values in [vec!["nonsense"], vec![&*parent, &*parent], vec![""], vec![&*long]] {
        let mut request = tonic::Request::new(GetRequest { group: "g".to_owned(), key: "miss".to_owned() });
        for value in values {
            let value = MetadataValue::try_from(value).expect("printable");
            request.metadata_mut().append("traceparent", value);
        }
        let origin: http::Uri = format!("http://{}", node.addr).parse().expect("an address");
        let mut single = GroupCacheClient::with_origin(faults::raw(&node.addr).await, origin);
        single.get(request).await.expect("a value all the same");
    }
    assert_eq!(node.seen(), []);
}
