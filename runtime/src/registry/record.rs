//! A member's record as the Go system's `naming/endpoints` writes it, and reads it.

use groupcache_core::MemberRecord;
use serde_json::{Map, Value};

/// All records stand under this. With the slash, so that no other service's name that merely begins alike is taken for ours.
pub(super) const PREFIX: &str = "groupcache/";

pub(crate) fn key(addr: &str) -> String {
    format!("{PREFIX}{addr}")
}

/// The record's bytes, exactly as Go's encoder has them. A weight other than 1 stands inside `Metadata`, which Go nodes pass over.
pub(crate) fn value(addr: &str, weight: u32) -> String {
    let addr = Value::from(addr);
    let metadata = if weight == 1 { "null".to_owned() } else { format!("{{\"weight\":{weight}}}") };
    format!("{{\"Op\":0,\"Addr\":{addr},\"Metadata\":{metadata}}}")
}

/// Why a record cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRecord {
    #[error("the key is not `groupcache/` and an address")]
    Key,
    #[error("the value is no JSON object")]
    Json,
    #[error("the value names no address")]
    Addr,
}

/// The address in a record's key.
pub(crate) fn parse_key(key: &[u8]) -> Result<&str, BadRecord> {
    let key = std::str::from_utf8(key).map_err(|_| BadRecord::Key)?;
    key.strip_prefix(PREFIX).filter(|addr| !addr.is_empty()).ok_or(BadRecord::Key)
}

/// Reads a record as tolerantly as Go's decoder: names in any case, fields missing or unknown; `Op` means nothing in a stored value.
pub(crate) fn parse(key: &[u8], value: &[u8]) -> Result<MemberRecord, BadRecord> {
    let key = parse_key(key)?;
    let fields: Map<String, Value> = serde_json::from_slice(value).map_err(|_| BadRecord::Json)?;
    let addr = field(&fields, "Addr").and_then(Value::as_str).filter(|addr| !addr.is_empty());
    let addr = addr.ok_or(BadRecord::Addr)?;
    let weight = field(&fields, "Metadata")
        .and_then(Value::as_object)
        .and_then(|metadata| field(metadata, "weight"))
        .and_then(Value::as_u64)
        .map_or(1, |weight| u32::try_from(weight).unwrap_or(u32::MAX));
    Ok(MemberRecord::new(addr, weight).with_key(key))
}

/// The exact name first, then any case, as Go prefers.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let any_case = || fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    fields.get(name).or_else(any_case)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_bytes_of_gos_encoder() {
        assert_eq!(key("localhost:8001"), "groupcache/localhost:8001");
        let expected = r#"{"Op":0,"Addr":"localhost:8001","Metadata":null}"#;
        assert_eq!(value("localhost:8001", 1), expected);
        assert_eq!(value("a:1", 3), r#"{"Op":0,"Addr":"a:1","Metadata":{"weight":3}}"#);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for weight in [1, 2, 256] {
            let read = parse(key("[::1]:80").as_bytes(), value("[::1]:80", weight).as_bytes());
            assert_eq!(read, Ok(MemberRecord::new("[::1]:80", weight)));
        }
    }

    #[test]
    fn records_are_read_as_tolerantly_as_go_reads_them() {
        let accepted = [
            r#"{"Addr":"h:1"}"#,
            r#"{"Op":1,"Addr":"h:1"}"#,
            r#"{"addr":"h:1"}"#,
            r#"{"ADDR":"h:1","Metadata":{"x":[1]},"More":true}"#,
            r#"{"addr":"other:2","Addr":"h:1","Metadata":"text"}"#,
            r#"{"Addr":"h:1","Metadata":{"weight":"heavy"}}"#,
            r#" {"Addr":"h:1","Metadata":{"Weight":1}} "#,
        ];
        for text in accepted {
            let expected = MemberRecord::new("h:1", 1).with_key("k:1");
            assert_eq!(parse(b"groupcache/k:1", text.as_bytes()), Ok(expected), "{text}");
        }
        let huge = r#"{"Addr":"h:1","Metadata":{"weight":99999999999}}"#;
        assert_eq!(parse(b"groupcache/h:1", huge.as_bytes()), Ok(MemberRecord::new("h:1", u32::MAX)));
    }

    #[test]
    fn what_cannot_be_a_record_is_refused_with_the_reason() {
        let refused = |key: &[u8], value: &str| parse(key, value.as_bytes()).unwrap_err();
        for text in ["h:1", "", "[]", "null", "{", "\u{fffd}"] {
            assert_eq!(refused(b"groupcache/h:1", text), BadRecord::Json, "{text}");
        }
        for text in ["{}", r#"{"Addr":""}"#, r#"{"Addr":null}"#, r#"{"Addr":7}"#] {
            assert_eq!(refused(b"groupcache/h:1", text), BadRecord::Addr, "{text}");
        }
        let good = r#"{"Addr":"h:1"}"#;
        for key in [&b"groupcache/"[..], b"groupcache", b"groupcache2/h:1", b"groupcache/\xff"] {
            assert_eq!(refused(key, good), BadRecord::Key);
        }
    }
}
