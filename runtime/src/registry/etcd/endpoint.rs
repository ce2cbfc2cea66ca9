//! Where etcd listens: `http://host:port`, `https://host:port`, or `host:port`.

use http::uri::{Authority, Scheme, Uri};

use crate::registry::RegistryError;

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) authority: Authority,
    /// Whether connections to it are secured.
    pub(super) secure: bool,
}

impl Endpoint {
    /// Reads an endpoint. `secured` says that connections can be secured, and those to endpoints without a scheme are.
    pub(super) fn parse(text: &str, secured: bool) -> Result<Self, RegistryError> {
        let refuse = |reason| RegistryError::Endpoint { endpoint: text.to_owned(), reason };
        let trimmed = text.trim();
        let (secure, rest) = match (trimmed.strip_prefix("https://"), trimmed.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            (None, None) => (secured, trimmed),
        };
        if secure && !secured {
            return Err(refuse(
                "https needs TLS: set `security` of EtcdConfig, to `Tls` of feature `tls` for one",
            ));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let form = "it must be http://host:port, https://host:port or host:port";
        let uri: Uri = rest.parse().map_err(|_| refuse(form))?;
        let authority = uri.into_parts().authority.ok_or_else(|| refuse("it names no host"))?;
        if authority.as_str() != rest {
            return Err(refuse(form));
        }
        if authority.as_str().contains('@') {
            return Err(refuse("a user name in it is not supported"));
        }
        if authority.port_u16().is_none() || authority.host().is_empty() {
            return Err(refuse("it must name a host and a port"));
        }
        Ok(Self { authority, secure })
    }

    /// As requests to it name it.
    pub(super) const fn scheme(&self) -> Scheme {
        if self.secure { Scheme::HTTPS } else { Scheme::HTTP }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port_with_or_without_http() {
        for text in ["http://h:2379", "h:2379", " http://h:2379/ ", "127.0.0.1:1", "[::1]:2379"] {
            let endpoint = Endpoint::parse(text, false).unwrap();
            assert!(text.contains(endpoint.authority.as_str()), "{text}: {endpoint:?}");
            assert!(!endpoint.secure, "{text}");
        }
    }

    #[test]
    fn with_a_security_https_is_secured_and_so_is_what_says_nothing() {
        for (text, secure) in [("https://h:2379/", true), ("h:2379", true), ("http://h:2379", false)] {
            let endpoint = Endpoint::parse(text, true).unwrap();
            assert_eq!((endpoint.authority.as_str(), endpoint.secure), ("h:2379", secure), "{text}");
        }
        for text in ["https://", "https://h", "https://http://h:1", "https://h:2379/path"] {
            assert!(Endpoint::parse(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_reason() {
        let refused = |text: &str| match Endpoint::parse(text, false) {
            Err(RegistryError::Endpoint { endpoint, reason }) => {
                (endpoint == text).then_some(reason).unwrap()
            }
            other => panic!("{text}: {other:?}"),
        };
        assert!(refused("https://h:2379").contains("set `security`"));
        assert!(refused("http://u:p@h:2379").contains("user name"));
        for text in
            ["", "h", "http://h", "http://:2379", "http://h:2379/path", "ftp://h:1", "h:99999", "a b:1"]
        {
            let _: &str = refused(text);
        }
    }
}
