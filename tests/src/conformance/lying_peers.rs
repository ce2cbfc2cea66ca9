//! Peers that answer, and not what was asked. No value of theirs may end up under a key that it was not given for, nothing may wait for ever.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use groupcache_proto::v1::FetchRequest;
use groupcache_runtime::ErrorKind;

use super::Cluster;
use super::failover::joined_by;
use super::fleet::{Fleet, chain, wait_for, within};
use super::liar::{Liar, Say, failure, item, key_at};
use super::origin::value_of;

/// What a lie consists of. No test may ever see it.
const WRONG: &str = "wrong";
/// How long callers of peers that keep them waiting wait.
const PATIENCE: Duration = Duration::from_millis(400);
/// What a loaded machine may add to that.
const SLACK: Duration = Duration::from_secs(2);

/// A fleet of two nodes and a liar, connected.
async fn with_liar(
    cluster: &Cluster,
    script: impl Fn(usize, &FetchRequest) -> Vec<Say> + Send + Sync + 'static,
) -> (Fleet<'_>, Liar) {
    let liar = Liar::start(script).await;
    let fleet = joined_by(cluster, liar.addr.clone()).await;
    for node in fleet.iter() {
        node.sees(&fleet.addrs).await;
    }
    (fleet, liar)
}

/// Every node has the right value for every key of the liar, twice: what it keeps is right as well. And then nobody waits for anything.
async fn nobody_is_misled(fleet: &Fleet<'_>, liar: &Liar, keys: &[String]) {
    for _ in 0..2 {
        join_all(keys.iter().map(|key| fleet.all_have(key))).await;
    }
    assert!(!liar.asked().is_empty(), "the liar had its say");
    nothing_is_left(fleet, liar).await;
}

async fn nothing_is_left(fleet: &Fleet<'_>, liar: &Liar) {
    for node in fleet.iter() {
        node.is_quiet().await;
    }
    wait_for("an end of all answers", || liar.speaking() == 0).await;
}

pub async fn answers_to_what_was_not_asked_are_ignored(cluster: &Cluster) {
    let (fleet, liar) = with_liar(cluster, |_, request| {
        let beyond = request.keys.len() as u32;
        let indexes = [beyond, beyond + 1, u32::MAX / 2, u32::MAX];
        vec![Say::Items(indexes.map(|index| item(index, WRONG, None)).to_vec()), Say::End]
    })
    .await;
    let keys = fleet.keys_of(2, "not answered", 20);
    nobody_is_misled(&fleet, &liar, &keys).await;
    assert!(keys.iter().all(|key| fleet.origin.loads_of(key) >= 1), "honest nodes had to load them");
}

pub async fn a_key_is_answered_once(cluster: &Cluster) {
    let (fleet, liar) = with_liar(cluster, |_, request| {
        let right = |index: usize| item(index as u32, &value_of(&key_at(request, index)), None);
        let mut items: Vec<_> = (0..request.keys.len()).map(right).collect();
        let wrong: Vec<_> = (0..request.keys.len()).map(|index| item(index as u32, WRONG, None)).collect();
        items.extend(wrong.clone());
        vec![Say::Items(items), Say::Items(wrong), Say::End]
    })
    .await;
    let keys = fleet.keys_of(2, "answered twice", 20);
    nobody_is_misled(&fleet, &liar, &keys).await;
    assert_eq!(fleet.origin.loads(), 0, "the first answers were good");
}

pub async fn more_answers_than_questions_do_no_harm(cluster: &Cluster) {
    let (fleet, liar) = with_liar(cluster, |_, _| {
        let many = |_| Say::Items((1_000_000..1_020_000).map(|index| item(index, WRONG, None)).collect());
        (0..3).map(many).chain([Say::End]).collect()
    })
    .await;
    let keys = fleet.keys_of(2, "flooded", 10);
    nobody_is_misled(&fleet, &liar, &keys).await;
}

pub async fn answers_for_another_key_of_the_batch_answer_that_key_only(cluster: &Cluster) {
    // Of a batch only the last key is answered, and then again with what is not its value.
    let (fleet, liar) = with_liar(cluster, |_, request| {
        let last = request.keys.len() - 1;
        let right = item(last as u32, &value_of(&key_at(request, last)), None);
        vec![Say::Items(vec![right]), Say::Items(vec![item(last as u32, WRONG, None); last]), Say::End]
    })
    .await;
    // All at once, so that the later ones gather into batches.
    let keys = fleet.keys_of(2, "in a batch", 60);
    nobody_is_misled(&fleet, &liar, &keys).await;
    assert!(liar.asked().iter().any(|request| request.keys.len() > 1), "there were batches");
}

pub async fn an_answer_that_is_empty_or_of_an_unknown_kind_is_no_value(cluster: &Cluster) {
    let (fleet, _liar) = with_liar(cluster, |_, request| {
        let unknown = key_at(request, 0).contains("unknown");
        let answer = |index| {
            let empty = groupcache_proto::v1::Item { index, ttl_ms: Some(1), ..Default::default() };
            if unknown { failure(index, 77) } else { empty }
        };
        vec![Say::Items((0..request.keys.len() as u32).map(answer).collect()), Say::End]
    })
    .await;
    fleet.all_have(&fleet.key_of(2, "empty answer")).await;
    let error = within("a get", fleet[0].group.get(&fleet.key_of(2, "unknown kind"))).await;
    let error = error.expect_err("a failure from the future");
    assert_eq!(error.kind(), ErrorKind::OriginFailed, "{}", chain(&error));
    assert!(chain(&error).contains("77"), "{}", chain(&error));
}

pub async fn an_absurd_time_to_live_is_cut_to_that_of_hot_copies(cluster: &Cluster) {
    let (fleet, _liar) = with_liar(cluster, |_, request| {
        let answer = |index: usize| {
            let key = key_at(request, index);
            let ttl = if key.contains("eternal") { u64::MAX } else { 0 };
            item(index as u32, &value_of(&key), Some(ttl))
        };
        vec![Say::Items((0..request.keys.len()).map(answer).collect()), Say::End]
    })
    .await;
    let (eternal, fleeting) = (fleet.key_of(2, "eternal"), fleet.key_of(2, "fleeting"));
    let found = within("a lookup", fleet[0].group.lookup(&eternal)).await.expect("a value");
    assert!(found.ttl.is_some_and(|ttl| ttl <= Duration::from_secs(30)), "{found:?}");
    assert_eq!(fleet[0].value(&fleeting).await, value_of(&fleeting));
    assert!(fleet[0].group.peek(&fleeting).is_none(), "it was over when it came");
    assert!(fleet[0].group.peek(&eternal).is_some());
}

pub async fn bytes_that_are_no_message_are_no_answer_and_open_the_breaker(cluster: &Cluster) {
    let lies: [&[u8]; 4] = [
        &[0xff; 40],
        // Compressed, in a way that nobody agreed upon.
        b"\x01\0\0\0\x02ab",
        // Three bytes that are no reply.
        b"\0\0\0\0\x03\xff\xff\xff",
        // More than any limit, of which some come.
        b"\0\x7f\xff\xff\xff all this",
    ];
    let (fleet, liar) =
        with_liar(cluster, move |number, _| vec![Say::Bytes(lies[number % lies.len()].to_vec()), Say::End])
            .await;
    let keys = fleet.keys_of(2, "garbled", 60);
    for key in &keys {
        fleet.all_have(key).await;
    }
    nothing_is_left(&fleet, &liar).await;
    for node in fleet.iter() {
        assert!(node.stat("peer_breaker_opened") >= 1, "node {}", node.number);
        assert!(node.stat("peer_refused_down") >= 1, "node {}", node.number);
    }
    let (asked, gets) = (liar.asked().len(), 2 * keys.len());
    assert!(asked < gets / 2, "the liar was asked {asked} times in {gets} gets");
}

pub async fn garbage_behind_a_good_beginning_is_no_answer(cluster: &Cluster) {
    // An empty reply, by which the batch is accepted, and then no message.
    let (fleet, liar) =
        with_liar(cluster, |_, _| vec![Say::Bytes(b"\0\0\0\0\0 what?".to_vec()), Say::End]).await;
    nobody_is_misled(&fleet, &liar, &fleet.keys_of(2, "garbled later", 30)).await;
}

/// Gets of keys of a peer that keeps everybody waiting. Each is over when its caller's time is; counts those that had a value after all.
async fn is_waited_for_in_vain(fleet: &Fleet<'_>, keys: &[String]) -> usize {
    let mut values = 0;
    for key in keys {
        let started = Instant::now();
        match within("a get", fleet[0].group.get_within(key, PATIENCE)).await {
            Ok(value) => {
                assert_eq!(value.as_bytes(), value_of(key).as_bytes());
                values += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Deadline, "{}", chain(&error)),
        }
        let took = started.elapsed();
        assert!(took < PATIENCE + SLACK, "a get that may take {PATIENCE:?} took {took:?}");
    }
    values
}

pub async fn half_a_message_and_then_silence_opens_the_breaker(cluster: &Cluster) {
    let (fleet, liar) =
        with_liar(cluster, |_, _| vec![Say::Bytes(b"\0\0\0\0\x20half a mess".to_vec()), Say::Hang]).await;
    let keys = fleet.keys_of(2, "kept waiting", 40);
    let (first, later) = keys.split_at(8);
    is_waited_for_in_vain(&fleet, first).await;
    assert!(fleet[0].stat("peer_breaker_opened") >= 1, "eight callers have waited in vain");
    let started = Instant::now();
    let values = is_waited_for_in_vain(&fleet, later).await;
    assert!(values >= later.len() / 2, "{values} values of {}, with the breaker open", later.len());
    assert!(started.elapsed() < PATIENCE * later.len() as u32 / 2, "it took {:?}", started.elapsed());
    nothing_is_left(&fleet, &liar).await;
}

pub async fn replies_without_an_answer_for_ever_end_with_the_callers_patience(cluster: &Cluster) {
    let (fleet, liar) = with_liar(cluster, |_, _| vec![Say::Nothing]).await;
    is_waited_for_in_vain(&fleet, &fleet.keys_of(2, "put off", 4)).await;
    assert!(!liar.asked().is_empty());
    nothing_is_left(&fleet, &liar).await;
    // The others' keys are none of its business.
    fleet.all_have(&fleet.key_of(0, "of a node")).await;
}

pub async fn what_is_said_after_the_last_answer_is_not_listened_to(cluster: &Cluster) {
    let (fleet, liar) = with_liar(cluster, |_, request| {
        let right = |index: usize| item(index as u32, &value_of(&key_at(request, index)), None);
        let wrong = (0..request.keys.len()).map(|index| item(index as u32, WRONG, None)).collect();
        vec![Say::Items((0..request.keys.len()).map(right).collect()), Say::Items(wrong), Say::Nothing]
    })
    .await;
    let keys = fleet.keys_of(2, "talked about", 20);
    nobody_is_misled(&fleet, &liar, &keys).await;
    assert_eq!(fleet.origin.loads(), 0);
    assert!(fleet.iter().all(|node| node.stat("peer_failed_batches") == 0));
}

pub async fn the_owner_is_told_the_time_that_is_left_less_a_margin(cluster: &Cluster) {
    let (fleet, liar) = with_liar(cluster, |_, request| {
        let right = |index: usize| item(index as u32, &value_of(&key_at(request, index)), None);
        vec![Say::Items((0..request.keys.len()).map(right).collect()), Say::End]
    })
    .await;
    let keys = fleet.keys_of(2, "limited", 3);
    for (key, limit) in keys.iter().zip([500, 2000, 60_000]) {
        let limit = Duration::from_millis(limit);
        let value = within("a get", fleet[0].group.get_within(key, limit)).await.expect("a value");
        assert_eq!(value.as_bytes(), value_of(key).as_bytes());
        let told = liar.asked().pop().and_then(|request| request.keys[0].remaining_ms).expect("a limit");
        // Its own limit is the load time-out, 30 s, and the margin 20 ms.
        let most = limit.min(Duration::from_secs(30)) - Duration::from_millis(20);
        let told = Duration::from_millis(told.into());
        assert!(told <= most && told + SLACK > most, "of {limit:?} the owner is told {told:?}");
    }
}
