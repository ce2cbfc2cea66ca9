//! What others write: the messages of both services, statuses, and records in etcd.

use std::fmt::Debug;
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use groupcache_core::{Failure, FailureKind, MAX_META, MemberRecord, Outcome, Value};
use groupcache_proto::groupcachepb::{GetRequest, GetResponse};
use groupcache_proto::{causes, failure_of_status, outcome_of_status, status_of_failure, v1};
use groupcache_runtime::__fuzz as runtime;
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};

/// What was encoded decodes to what it was, any bytes decode or are refused, and what either turns into keeps to the limits of the wire.
pub fn wire(data: &[u8]) {
    let _ended = run(Unstructured::new(data));
}

/// How many bytes of an error's text cross the wire.
const MAX_TEXT: usize = 1024;

fn run(mut bytes: Unstructured<'_>) -> Result<()> {
    match bytes.int_in_range(0..=6)? {
        0 => go_messages(&mut bytes),
        1 => requests(&mut bytes),
        2 => replies(&mut bytes),
        3 => failures(&mut bytes),
        4 => statuses(&mut bytes),
        5 => records(&mut bytes),
        _ => {
            any_bytes(bytes.take_rest());
            Ok(())
        }
    }
}

/// Bytes of any origin, read as everything that is read.
fn any_bytes(bytes: &[u8]) {
    if let (Some(request), Some(fields)) = (decoded::<GetRequest>(bytes), fields(bytes)) {
        assert_eq!(last_texts(&fields), [request.group, request.key]);
    }
    decoded::<GetResponse>(bytes);
    decoded::<v1::InvalidateRequest>(bytes);
    decoded::<v1::InvalidateReply>(bytes);
    if let Some(request) = decoded::<v1::FetchRequest>(bytes) {
        check_entries(&request);
    }
    if let Some(reply) = decoded::<v1::FetchReply>(bytes) {
        reply.items.into_iter().for_each(check_item);
    }
    let (key, value) = bytes.split_at(bytes.len() / 4);
    if let Ok(record) = runtime::read_record(&[b"groupcache/", key].concat(), value) {
        assert_eq!(record.key.as_bytes(), key);
        check_record(&record, value);
    }
    assert!(key.starts_with(b"groupcache/") || runtime::read_record(key, value).is_err());
}

fn decoded<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    round_trip(&message);
    Some(message)
}

#[track_caller]
fn round_trip<M: Message + Default + PartialEq + Debug>(message: &M) {
    let encoded = message.encode_to_vec();
    assert_eq!(encoded.len(), message.encoded_len());
    assert!(M::decode(&encoded[..]).expect("it was encoded here") == *message, "{message:?}");
}

/// The fields with bytes in them, read by the rules of the format and without the library. `None` where they are no fields, or groups, which are of
/// another age.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => bytes = bytes.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (field, rest) = bytes.split_at_checked(length)?;
                fields.push((tag >> 3, field));
                bytes = rest;
            }
            5 => bytes = bytes.get(4..)?,
            _ => return None,
        }
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if *first < 0x80 {
            return Some(value);
        }
    }
    None
}

fn last_texts(fields: &[(u64, &[u8])]) -> [String; 2] {
    [1, 2].map(|number| {
        let last = fields.iter().rev().find(|field| field.0 == number);
        last.map_or(String::new(), |(_, text)| String::from_utf8_lossy(text).into_owned())
    })
}

/// As a Go node writes and reads them.
fn go_messages(bytes: &mut Unstructured<'_>) -> Result<()> {
    let request = GetRequest { group: bytes.arbitrary()?, key: bytes.arbitrary()? };
    round_trip(&request);
    let expected = [&request.group, &request.key].map(Clone::clone);
    let encoded = request.encode_to_vec();
    assert_eq!(fields(&encoded).map(|fields| last_texts(&fields)), Some(expected));
    let response = GetResponse { value: bytes.arbitrary::<Vec<u8>>()?.into() };
    round_trip(&response);
    let encoded = response.encode_to_vec();
    let value = fields(&encoded).expect("fields");
    assert_eq!(value.first().map_or(&[][..], |field| field.1), response.value);
    Ok(())
}

fn requests(bytes: &mut Unstructured<'_>) -> Result<()> {
    let mut request = v1::FetchRequest::new(bytes.arbitrary()?);
    let groups = ["", "a", "b", "групп", "a"];
    let mut pushed = Vec::new();
    for _ in 0..bytes.int_in_range(0..=20)? {
        let (group, key): (&str, Vec<u8>) = (bytes.choose(&groups)?, bytes.arbitrary()?);
        let remaining = optional_duration(bytes)?;
        request.push(group, key.clone(), remaining);
        let most = Duration::from_millis(u32::MAX.into());
        pushed.push((group, key, remaining.map(|time| whole_millis(time).min(most))));
    }
    round_trip(&request);
    let read = v1::FetchRequest::decode(&request.encode_to_vec()[..]).expect("it was encoded here");
    assert_eq!(check_entries(&read), Some(pushed.len()));
    for (entry, (index, (group, key, remaining))) in
        read.entries().expect("it was filled here").zip((0..).zip(&pushed))
    {
        let got = (entry.index, entry.group, &entry.key[..], entry.remaining);
        assert_eq!(got, (index, *group, &key[..], *remaining));
    }

    request.from = bytes.arbitrary()?;
    for key in &mut request.keys {
        if bytes.ratio(1, 8)? {
            key.group = bytes.arbitrary()?;
        }
    }
    round_trip(&request);
    check_entries(&request);
    let key = v1::invalidate_request::What::Key(bytes.arbitrary::<Vec<u8>>()?.into());
    let whole = v1::invalidate_request::What::WholeGroup(bytes.arbitrary()?);
    for what in [None, Some(key), Some(whole)] {
        round_trip(&v1::InvalidateRequest { group: request.from.clone(), what });
    }
    Ok(())
}

/// A request is read as a whole or not at all. How many keys it has, when it is read.
fn check_entries(request: &v1::FetchRequest) -> Option<usize> {
    let groups = request.groups.len();
    let is_whole = request.keys.iter().all(|key| (key.group as usize) < groups);
    match request.entries() {
        Ok(entries) => {
            assert!(is_whole);
            let indexes: Vec<u32> = entries.map(|entry| entry.index).collect();
            assert!(indexes.iter().copied().eq(0..request.keys.len() as u32));
            Some(indexes.len())
        }
        Err(error) => {
            assert!(!is_whole, "{error}");
            None
        }
    }
}

fn replies(bytes: &mut Unstructured<'_>) -> Result<()> {
    let mut reply = v1::FetchReply { items: Vec::new(), fingerprint: bytes.arbitrary()? };
    for index in 0..bytes.int_in_range(0..=10)? {
        let (value, ttl): (Vec<u8>, _) = (bytes.arbitrary()?, optional_duration(bytes)?);
        let meta = &[7; MAX_META][..*bytes.choose(&[0, 0, 1, 200, MAX_META])?];
        let value = Value::with_meta(&value, meta).expect("not too much metadata");
        let item = v1::Item::new(index, Ok((value.clone(), ttl)));
        reply.items.push(item.clone());
        match item.into_outcome() {
            (number, Outcome::Value { value: got, ttl: left }) => {
                assert_eq!((number, got, left), (index, value, ttl.map(whole_millis)));
            }
            other => panic!("{other:?}"),
        }
        reply.items.push(v1::Item::new(index, Err(&failure(bytes)?)));
    }
    round_trip(&reply);
    reply.items.into_iter().for_each(check_item);
    Ok(())
}

fn check_item(item: v1::Item) {
    let has_value = matches!(item.result, Some(v1::item::Result::Value(_))) && item.meta.len() <= MAX_META;
    let index = item.index;
    let (number, outcome) = item.into_outcome();
    assert_eq!((number, matches!(outcome, Outcome::Value { .. })), (index, has_value));
    check_outcome(&outcome);
}

/// An answer about the peer itself is none about the key, and no text is longer than it may be.
fn check_outcome(outcome: &Outcome) {
    match outcome {
        Outcome::Value { .. } => {}
        Outcome::Failed(failure) => {
            assert!(!failure.kind.is_about_the_peer(), "{failure:?}");
            assert!(causes(failure).len() <= MAX_TEXT);
        }
        Outcome::Unreachable(cause) => {
            let cause = cause.as_ref().expect("a peer's answer has words");
            assert!(causes(&**cause).len() <= MAX_TEXT);
        }
    }
}

fn failures(bytes: &mut Unstructured<'_>) -> Result<()> {
    let sent = failure(bytes)?;
    let message = v1::Failure::from(&sent);
    assert!(message.message.len() <= MAX_TEXT && causes(&sent).starts_with(&message.message));
    round_trip(&message);
    let got = Failure::from(message.clone());
    assert_eq!((got.kind, causes(&got)), (sent.kind, message.message));

    let number = bytes.arbitrary()?;
    let unknown = v1::Failure { kind: number, message: bytes.arbitrary()? };
    round_trip(&unknown);
    let got = Failure::from(unknown);
    assert!(causes(&got).len() <= MAX_TEXT);
    let known = usize::try_from(number).ok().and_then(|number| FailureKind::ALL.get(number.checked_sub(1)?));
    assert_eq!(got.kind, known.copied().unwrap_or(FailureKind::OriginFailed));
    Ok(())
}

/// Over the headers of HTTP, as they cross.
fn statuses(bytes: &mut Unstructured<'_>) -> Result<()> {
    let failure = failure(bytes)?;
    let sent = status_of_failure(&failure, bytes.arbitrary()?);
    assert!(sent.message().len() <= MAX_TEXT);
    let headers = sent.clone().into_http::<String>();
    let got = Status::from_header_map(headers.headers()).expect("a status is in the headers");
    assert_eq!((got.code(), got.message()), (sent.code(), sent.message()));
    let read = failure_of_status(&got).expect("a peer's failure");
    assert_eq!(read.kind, failure.kind);
    check_outcome(&outcome_of_status(got));

    let foreign = Status::new(Code::from_i32(bytes.int_in_range(-1..=20)?), String::arbitrary(bytes)?);
    let is_answer = failure_of_status(&foreign).is_some();
    let outcome = outcome_of_status(foreign);
    assert_eq!(matches!(outcome, Outcome::Failed(_)), is_answer, "no code alone speaks of the peer");
    if is_answer {
        check_outcome(&outcome);
    }
    Ok(())
}

fn records(bytes: &mut Unstructured<'_>) -> Result<()> {
    let host: String = (0..bytes.int_in_range(1..=30)?)
        .map(|_| Ok(char::from(*bytes.choose(b"abcxyzABCXYZ0123456789.-_[]:%")?)))
        .collect::<Result<_>>()?;
    let weight = if bytes.arbitrary()? { 1 } else { bytes.arbitrary()? };
    let addr = format!("{host}:{}", bytes.arbitrary::<u16>()?);
    let (key, value) = runtime::write_record(&addr, weight);
    assert_eq!(key, format!("groupcache/{addr}"));
    if weight == 1 {
        assert_eq!(value, format!(r#"{{"Op":0,"Addr":"{addr}","Metadata":null}}"#), "as Go's encoder has it");
    }
    written(&addr, weight);
    // Not that anybody could be reached there.
    let any: String = bytes.arbitrary()?;
    if !any.is_empty() {
        written(&any, weight);
    }
    Ok(())
}

fn written(addr: &str, weight: u32) {
    let (key, value) = runtime::write_record(addr, weight);
    assert_eq!(runtime::read_record(key.as_bytes(), value.as_bytes()), Ok(MemberRecord::new(addr, weight)));
    let metadata = if weight == 1 { json!(null) } else { json!({ "weight": weight }) };
    let expected = json!({ "Op": 0, "Addr": addr, "Metadata": metadata });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&value).expect("it is JSON"), expected);
}

/// A record that was read is an object in which a field, its name in some case, has this address.
fn check_record(record: &MemberRecord, value: &[u8]) {
    let json: serde_json::Value = serde_json::from_slice(value).expect("a record is JSON");
    let fields = json.as_object().expect("a record is an object");
    let mut named = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("addr"));
    assert!(!record.addr.is_empty() && named.any(|(_, addr)| addr.as_str() == Some(&record.addr)));
}

fn failure(bytes: &mut Unstructured<'_>) -> Result<Failure> {
    let kind = *bytes.choose(&FailureKind::ALL)?;
    if bytes.ratio(1, 4)? {
        return Ok(Failure::new(kind));
    }
    let mut text: String = bytes.arbitrary()?;
    if bytes.ratio(1, 8)? {
        text = text.repeat(bytes.int_in_range(1..=600)?);
    }
    Ok(Failure::with_message(kind, text))
}

fn optional_duration(bytes: &mut Unstructured<'_>) -> Result<Option<Duration>> {
    let seconds = if bytes.arbitrary()? { bytes.int_in_range(0..=100)? } else { bytes.arbitrary()? };
    let duration = Duration::new(seconds, bytes.int_in_range(0..=999_999_999)?);
    Ok(bytes.ratio(3, 4)?.then_some(duration))
}

/// In the milliseconds that cross the wire.
fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
