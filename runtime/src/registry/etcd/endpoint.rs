//! Where etcd listens: `http://host:port`, or `host:port`.

use http::uri::{Authority, Uri};

use crate::registry::RegistryError;

/// Reads one endpoint.
pub(super) fn parse(text: &str) -> Result<Authority, RegistryError> {
    let refuse = |reason| RegistryError::Endpoint { endpoint: text.to_owned(), reason };
    let trimmed = text.trim();
    if trimmed.starts_with("https://") {
        return Err(refuse("TLS is not supported yet, use http:// or a TLS proxy on this host"));
    }
    let authority = trimmed.strip_prefix("http://").unwrap_or(trimmed);
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let uri: Uri = authority.parse().map_err(|_| refuse("it must be http://host:port or host:port"))?;
    let authority = uri.into_parts().authority.ok_or_else(|| refuse("it names no host"))?;
    if authority.as_str() != trimmed.trim_start_matches("http://").trim_end_matches('/') {
        return Err(refuse("it must be http://host:port or host:port"));
    }
    if authority.as_str().contains('@') {
        return Err(refuse("a user name in it is not supported"));
    }
    if authority.port_u16().is_none() || authority.host().is_empty() {
        return Err(refuse("it must name a host and a port"));
    }
    Ok(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port_with_or_without_http() {
        for text in ["http://h:2379", "h:2379", " http://h:2379/ ", "127.0.0.1:1", "[::1]:2379"] {
            let authority = parse(text).unwrap();
            assert!(text.contains(authority.as_str()), "{text}: {authority}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_reason() {
        let refused = |text: &str| match parse(text) {
            Err(RegistryError::Endpoint { endpoint, reason }) => {
                (endpoint == text).then_some(reason).unwrap()
            }
            other => panic!("{text}: {other:?}"),
        };
        assert!(refused("https://h:2379").contains("TLS"));
        assert!(refused("http://u:p@h:2379").contains("user name"));
        for text in
            ["", "h", "http://h", "http://:2379", "http://h:2379/path", "ftp://h:1", "h:99999", "a b:1"]
        {
            let _: &str = refused(text);
        }
    }
}
