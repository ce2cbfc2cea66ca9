//! Where a group's values come from: a directory, or an HTTP server.

use std::io;
use std::str::FromStr;

use async_trait::async_trait;
use groupcache_async_std::{Loaded, RetrieveError, Retriever};

use crate::files::Files;
use crate::web::Web;

/// What `--group NAME=SOURCE` names.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// `file:DIR`.
    Files(Files),
    /// `http://host/prefix/`: keys are appended to it.
    Web(Web),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("file:") {
            Some(dir) => Files::new(dir).map(Self::Files).map_err(|error| format!("`{dir}`: {error}")),
            None => Web::new(text).map(Self::Web),
        }
    }
}

/// A source as the retriever of a group: values of at most `max_value` bytes each.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) source: Source,
    pub(crate) max_value: usize,
}

#[async_trait]
impl Retriever for Origin {
    async fn retrieve(&self, key: &str) -> Result<Loaded, RetrieveError> {
        let loaded = match &self.source {
            Source::Files(files) => files.load(key, self.max_value).await,
            Source::Web(web) => web.load(key, self.max_value).await,
        };
        loaded.map(Loaded::from)
    }
}

/// How an origin failed. "Not found", a key that cannot be and a value over the limit are no faults of it: [`RetrieveError`] has its own words
/// for them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot open the file")]
    Open(#[source] io::Error),
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    #[error("cannot reach the origin")]
    Unreachable(#[source] io::Error),
    #[error("the key makes no URL")]
    Url(#[source] hyper::http::Error),
    #[error("the origin gave no answer")]
    NoAnswer(#[source] hyper::Error),
    #[error("the origin answered {0}")]
    Status(hyper::StatusCode),
    #[error("the origin's answer broke off")]
    BrokenOff(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the origin does not say where its answer ends: it needs content-length or chunked encoding")]
    Unbounded,
}
