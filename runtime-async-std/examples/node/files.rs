//! A directory as an origin: the key is a relative path.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use async_std::task::spawn_blocking;
use bytes::Bytes;
use groupcache_async_std::RetrieveError;

use crate::origin::Fault;

/// The regular files below a directory; symbolic links that stay inside are followed.
///
/// The path is checked and then opened: who may change links in the directory can come between the two. The `groupcache` binary closes that gap,
/// with `cap-std`.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    /// # Errors
    /// `dir` is not there.
    pub(crate) fn new(dir: &str) -> io::Result<Self> {
        Ok(Self { root: Path::new(dir).canonicalize()? })
    }

    /// Reads the file that `key` names, off the runtime's threads.
    pub(crate) async fn load(&self, key: &str, limit: usize) -> Result<Bytes, RetrieveError> {
        if !is_plain(key) {
            return Err(RetrieveError::invalid_key("the key is not a plain relative path"));
        }
        let (root, path) = (self.root.clone(), self.root.join(key));
        spawn_blocking(move || read(&root, &path, limit)).await
    }
}

/// Nothing but names between slashes: no `.` and `..`, not absolute, no empty segment, no NUL.
fn is_plain(key: &str) -> bool {
    let plain = |name: &str| {
        let mut parts = Path::new(name).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
    };
    !key.contains('\0') && key.split('/').all(plain)
}

fn read(root: &Path, path: &Path, limit: usize) -> Result<Bytes, RetrieveError> {
    let path = path.canonicalize().map_err(classify)?;
    if !path.starts_with(root) {
        return Err(RetrieveError::invalid_key("the path leads out of the directory"));
    }
    // Before it is opened: the opening of a FIFO would wait for a writer.
    if !fs::metadata(&path).map_err(classify)?.is_file() {
        return Err(RetrieveError::not_found());
    }
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut value = Vec::new();
    File::open(&path).map_err(classify)?.take(most).read_to_end(&mut value).map_err(Fault::Read)?;
    if value.len() > limit { Err(RetrieveError::too_large(limit)) } else { Ok(value.into()) }
}

fn classify(error: io::Error) -> RetrieveError {
    match error.kind() {
        // A name that is too long for the file system is no file's.
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
            RetrieveError::not_found()
        }
        _ => Fault::Open(error).into(),
    }
}
