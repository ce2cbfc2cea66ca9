//! One trace from a caller to the origin that loads for it, at whichever node.

use std::num::{NonZeroU64, NonZeroU128};

use futures_util::future::join_all;
use groupcache_runtime::trace::TraceContext;

use super::Cluster;
use super::fleet::{Options, within};
use super::origin::Origin;

/// An origin whose values say in which trace they were loaded.
fn telling() -> Origin {
    Origin::new(|_| async {
        let context = TraceContext::current();
        let text = context.map(|it| format!("{it} {}", it.tracestate().unwrap_or_default()));
        Ok(text.unwrap_or_else(|| "none".to_owned()).into())
    })
}

fn traced() -> Options {
    Options { tracing: true, ..Options::default() }
}

fn caller(number: u64) -> TraceContext {
    let (trace, span) = (NonZeroU128::MIN.saturating_add(number.into()), NonZeroU64::MIN);
    TraceContext::new(trace, span, true).with_tracestate(&format!("caller={number}"))
}

/// The trace that a value says it was loaded in.
fn told(value: &str) -> TraceContext {
    let (parent, state) = value.split_once(' ').unwrap_or_else(|| panic!("loaded in no trace: {value}"));
    TraceContext::parse(parent, Some(state)).unwrap_or_else(|| panic!("no context: {value}"))
}

pub async fn a_get_is_one_trace_up_to_the_owners_origin(cluster: &Cluster) {
    let fleet = cluster.fleet(3, traced(), telling()).await;
    for owner in 0..3 {
        let (key, mine) = (fleet.key_of(owner, "traced"), caller(owner as u64));
        let load = told(&mine.clone().scope(fleet[0].value(&key)).await);
        assert_eq!((load.trace_id(), load.tracestate()), (mine.trace_id(), mine.tracestate()));
        assert_ne!(load.span_id(), mine.span_id(), "the load has a span of its own");
        assert!(load.is_sampled());
    }
    let (first, second) = (fleet[0].value("of nobody").await, fleet[0].value("of nobody else").await);
    assert_ne!(
        told(&first).trace_id(),
        told(&second).trace_id(),
        "without a caller's, each get begins a trace"
    );
}

pub async fn keys_that_leave_in_one_message_keep_their_own_traces(cluster: &Cluster) {
    let fleet = cluster.fleet(3, traced(), telling()).await;
    let keys = fleet.keys_of(1, "of many callers", 40);
    let gets = keys.iter().zip(0..).map(|(key, number)| caller(number).scope(fleet[0].value(key)));
    let values = within("gets", join_all(gets)).await;
    for (value, number) in values.iter().zip(0..) {
        let load = told(value);
        assert_eq!(
            (load.trace_id(), load.tracestate()),
            (caller(number).trace_id(), caller(number).tracestate())
        );
    }
    let mut keys = fleet.keys_of(1, "of one caller", 20);
    keys.extend(fleet.keys_of(2, "of one caller", 20));
    let answers = within("many gets", caller(77).scope(fleet[0].group.get_many(&keys))).await;
    for answer in answers {
        assert_eq!(told(&answer.expect("a value").to_string()).trace_id(), caller(77).trace_id());
    }
}

pub async fn a_node_that_does_not_trace_serves_one_that_does_and_the_other_way_round(cluster: &Cluster) {
    let fleet = cluster.fleet_of(vec![traced(), Options::default()], telling()).await;
    let key = fleet.key_of(1, "of who does not");
    assert_eq!(caller(1).scope(fleet[0].value(&key)).await, "none");
    let key = fleet.key_of(0, "of who does");
    let load = told(&caller(2).scope(fleet[1].value(&key)).await);
    assert_ne!(load.trace_id(), caller(2).trace_id(), "nobody told the owner");
}
