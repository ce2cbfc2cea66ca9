//! Where values come from: a directory, or an HTTP server.

mod answer;
mod file;
#[cfg(test)]
mod file_tests;
mod freshness;
#[cfg(test)]
mod keeping_tests;
mod web;
#[cfg(test)]
mod web_tests;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use groupcache_runtime::{ByteView, Loaded, RetrieveError, Retriever, Revalidated};
use reqwest::Url;

use answer::{Again, Answer};
use file::Files;
use web::Web;

use crate::report;

/// What `--group NAME=SOURCE` names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// `file:DIR`.
    Files(PathBuf),
    /// `http://host/prefix/` or `https://host/prefix/`: keys are appended to it.
    Web(Url),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(dir) = text.strip_prefix("file:") {
            return match dir {
                "" => Err("`file:` needs a directory, such as file:.".to_owned()),
                dir => Ok(Self::Files(dir.into())),
            };
        }
        if !(text.starts_with("http://") || text.starts_with("https://")) {
            return Err(format!("`{text}` is not a source: expected file:DIR or http://host/prefix/"));
        }
        let mut prefix = Url::parse(text).map_err(|error| format!("`{text}` is not a URL: {error}"))?;
        if prefix.query().is_some() || prefix.fragment().is_some() {
            return Err("the prefix takes no query and no fragment: keys are appended to its path".to_owned());
        }
        if !prefix.path().ends_with('/') {
            let path = format!("{}/", prefix.path());
            prefix.set_path(&path);
        }
        Ok(Self::Web(prefix))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Source {
    /// As the user wrote it, without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(dir) => write!(f, "file:{}", dir.display()),
            Self::Web(prefix) => {
                write!(f, "{}://{}", prefix.scheme(), prefix.host_str().unwrap_or_default())?;
                if let Some(port) = prefix.port() {
                    write!(f, ":{port}")?;
                }
                f.write_str(prefix.path())
            }
        }
    }
}

/// What every origin of a node has in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest value, in bytes. Reading stops there.
    pub(crate) max_value: usize,
    /// How long an HTTP origin may say nothing.
    pub(crate) stall: Duration,
    /// How long values are kept.
    pub(crate) keeping: Keeping,
}

/// What a node says of how long values are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keeping {
    /// For how long at most, where there is such a limit; also for as long where the origin says nothing.
    pub(crate) most: Option<Duration>,
    /// Whether expired values are held for their origin to say that they have not changed.
    pub(crate) revalidates: bool,
}

/// Turns sources into origins. Every HTTP origin shares one client, so that connections are kept across groups.
#[derive(Debug)]
pub(crate) struct Origins {
    limits: Limits,
    /// Made for the first HTTP origin: a node that serves files reads no certificates.
    client: Option<reqwest::Client>,
}

impl Origins {
    pub(crate) const fn new(limits: Limits) -> Self {
        Self { limits, client: None }
    }

    /// # Errors
    /// The directory is not there, or is none; TLS cannot be set up.
    pub(crate) fn open(&mut self, source: &Source) -> Result<Origin, String> {
        let Limits { max_value, stall, keeping } = self.limits;
        match source {
            Source::Files(dir) => Files::open(dir, max_value)
                .map(|files| Origin::Files(files.keeping(keeping)))
                .map_err(|error| format!("cannot serve `{}`: {error}", dir.display())),
            Source::Web(prefix) => {
                let client = match &self.client {
                    Some(client) => client.clone(),
                    None => web::client(stall).map_err(|error| {
                        format!("cannot set up an HTTP client: {}", report::chain(&error))
                    })?,
                };
                self.client = Some(client.clone());
                Ok(Origin::Web(Web::new(client, prefix.clone(), max_value, stall).keeping(keeping)))
            }
        }
    }
}

/// An origin of a group.
#[derive(Debug)]
pub(crate) enum Origin {
    Files(Files),
    Web(Web),
}

#[async_trait]
impl Retriever for Origin {
    async fn retrieve(&self, key: &str) -> Result<Loaded, RetrieveError> {
        let loaded = match self {
            Self::Files(files) => files.load(key).await,
            Self::Web(web) => web.load(key).await,
        };
        loaded.map_err(|error| error.reported(key))?.into_loaded()
    }

    async fn revalidate(&self, key: &str, stale: &ByteView) -> Result<Revalidated, RetrieveError> {
        let again = match self {
            Self::Files(files) => files.revalidate(key, stale).await,
            Self::Web(web) => web.revalidate(key, stale).await,
        };
        match again.map_err(|error| error.reported(key))? {
            Again::Unchanged { ttl } => Ok(Revalidated::Unchanged { ttl }),
            Again::Changed(answer) => answer.into_loaded().map(Revalidated::Changed),
        }
    }
}

/// Why an origin gave no value.
#[derive(Debug)]
pub(crate) enum OriginError {
    /// There is no such value.
    NotFound,
    /// No value can have this key.
    InvalidKey(&'static str),
    /// The value has more bytes than this.
    TooLarge(usize),
    /// The origin could not say.
    Failed(Box<Fault>),
}

impl OriginError {
    /// As an error of the retriever, with a line in the log where the origin is at fault.
    fn reported(self, key: &str) -> RetrieveError {
        if let Self::Failed(fault) = &self {
            tracing::warn!(key, error = report::chain(&**fault), "the origin failed");
        }
        self.into_retrieve_error()
    }

    /// Not a `From`: [`RetrieveError`] takes any error for a failure of the origin, and this is more than that.
    fn into_retrieve_error(self) -> RetrieveError {
        match self {
            Self::NotFound => RetrieveError::not_found(),
            Self::InvalidKey(why) => RetrieveError::invalid_key(why),
            Self::TooLarge(limit) => RetrieveError::too_large(limit),
            Self::Failed(fault) => RetrieveError::from(*fault),
        }
    }
}

impl From<Fault> for OriginError {
    fn from(fault: Fault) -> Self {
        Self::Failed(Box::new(fault))
    }
}

/// How an origin failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot open the file")]
    Open(#[source] std::io::Error),
    #[error("cannot read the file")]
    Read(#[source] std::io::Error),
    #[error("the file changed while it was read")]
    Changed,
    #[error("reading the file was given up")]
    Abandoned(#[source] tokio::task::JoinError),
    #[error("cannot reach the origin")]
    Unreachable(#[source] reqwest::Error),
    #[error("the origin gave no answer")]
    NoAnswer(#[source] reqwest::Error),
    #[error("the origin said nothing for {} before its answer", humantime::format_duration(*.0))]
    Silent(Duration),
    #[error("the origin answered {0}")]
    Status(reqwest::StatusCode),
    #[error("the origin answered {0}: redirects are not followed")]
    Redirect(reqwest::StatusCode),
    #[error("the origin's answer stalled for {} after {read} bytes", humantime::format_duration(*.stall))]
    Stalled { read: usize, stall: Duration },
    #[error("the origin's answer broke off after {read} bytes")]
    BrokenOff {
        read: usize,
        #[source]
        cause: reqwest::Error,
    },
    #[error("the origin announced {announced} bytes and sent {read}")]
    Length { announced: u64, read: usize },
    #[error("the origin does not say where its answer ends: it needs content-length or chunked encoding")]
    Unbounded,
}

/// The result of a load.
type Load = Result<Answer, OriginError>;

/// The result of asking again.
type Reload = Result<Again, OriginError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_directories_or_prefixes() {
        let source = |text: &str| text.parse::<Source>();
        assert_eq!(source("file:a dir/b"), Ok(Source::Files("a dir/b".into())));
        assert_eq!(source("http://h/p").unwrap().to_string(), "http://h/p/");
        assert_eq!(source("https://h:8443").unwrap().to_string(), "https://h:8443/");
        for refused in ["", "file:", "/srv", "ftp://h/", "http://", "http://h/?q", "http://h/#f"] {
            assert!(source(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_password_in_a_prefix_is_not_displayed() {
        let source: Source = "http://user:secret@h:81/p/".parse().unwrap();
        assert_eq!(source.to_string(), "http://h:81/p/");
        assert_eq!(format!("{source:?}"), "http://h:81/p/");
    }
}
