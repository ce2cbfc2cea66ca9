//! A directory as an origin: the key is a relative path.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use groupcache_runtime::ByteView;
use http::header::{CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED};

use super::{Again, Answer, Fault, Keeping, Load, OriginError, Reload};
use crate::head::Head;

/// How long a file must have been left alone for its time of modification to tell it from what it will be: a file system's clock ticks, and some tick every
/// other second.
const SETTLED: Duration = Duration::from_secs(2);

/// How often a file that changes under its reader is read again.
const ATTEMPTS: usize = 3;

/// The regular files below a directory.
///
/// No key leads out of the directory: the path is opened by `cap-std`, which resolves it beneath the directory's own handle (`openat2` with
/// `RESOLVE_BENEATH` where the system has it, else component by component without following links blindly), so that no check can be
/// overtaken by a rename. Symbolic links that stay inside are followed. What is not a regular file is not found.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: Arc<Path>,
    max_value: usize,
    keeping: Keeping,
}

impl Files {
    /// The files below `dir`, of at most `max_value` bytes each.
    ///
    /// The directory is opened anew for each load: one that a deployment replaces is followed.
    ///
    /// # Errors
    /// `dir` cannot be opened, or is not a directory.
    pub(crate) fn open(dir: &Path, max_value: usize) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        Dir::open_ambient_dir(&dir, ambient_authority())?;
        Ok(Self { dir: dir.into(), max_value, keeping: Keeping::default() })
    }

    /// The same, of a node that keeps values for so long.
    pub(crate) const fn keeping(mut self, keeping: Keeping) -> Self {
        self.keeping = keeping;
        self
    }

    /// Reads the file that `key` names, off the runtime's threads.
    pub(crate) async fn load(&self, key: &str) -> Load {
        let path = relative_path(key)?;
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.read(&path)).await.map_err(Fault::Abandoned)?
    }

    /// Looks whether a file has changed since it was read as `stale`, and reads it where it has.
    pub(crate) async fn revalidate(&self, key: &str, stale: &ByteView) -> Reload {
        let path = relative_path(key)?;
        let (this, known) = (self.clone(), Head::from_meta(stale.meta()));
        let again = move || {
            let file = this.open_file(&path)?;
            let now = Shape::of(&file)?.tag();
            // A weak tag was given to a file that might still have been written to, within one tick of the file system's clock.
            let is_same = now.is_some() && now.as_ref() == known.get(&ETAG);
            if is_same { Ok(Again::Unchanged { ttl: None }) } else { this.read(&path).map(Again::Changed) }
        };
        tokio::task::spawn_blocking(again).await.map_err(Fault::Abandoned)?
    }

    /// Reads a file whole. One that changes meanwhile is read again, and refused when it does not come to rest.
    ///
    /// Seen are changes of length and of the time of modification, which is all that the system tells. A writer that wants to be sure writes a new file and
    /// renames it over the old one.
    fn read(&self, path: &Path) -> Load {
        for _ in 0..ATTEMPTS {
            let mut file = self.open_file(path)?;
            let (before, began) = (Shape::of(&file)?, SystemTime::now());
            let value = read_to_end(&mut file, before.len, self.max_value)?;
            // Files of /proc say that they have no bytes.
            let whole = before.len == 0 || u64::try_from(value.len()) == Ok(before.len);
            if whole && Shape::of(&file)? == before {
                let mut head = head_of(path, &before, value.len(), began);
                head.kept = self.keeping.most;
                return Ok(Answer { bytes: value.into(), head: head.into(), ttl: None, fresh_only: false });
            }
        }
        Err(Fault::Changed.into())
    }

    /// Opens a regular file beneath the directory.
    fn open_file(&self, path: &Path) -> Result<File, OriginError> {
        let dir = Dir::open_ambient_dir(&*self.dir, ambient_authority()).map_err(Fault::Open)?;
        let file = match open_beneath(&dir, path) {
            Err(error) if is_escape(&error) => self.open_resolved(&dir, path)?,
            opened => opened.map_err(classify)?,
        };
        // Asked of the open file, not of the path: what a path names can change in between.
        let metadata = file.metadata().map_err(Fault::Open)?;
        if metadata.is_file() { Ok(file) } else { Err(OriginError::NotFound) }
    }

    /// An absolute symbolic link counts as leading out, also where it leads back in. So ask where the path ends up, and open that beneath
    /// the directory too: should a link change in between, the open still cannot leave.
    fn open_resolved(&self, dir: &Dir, path: &Path) -> Result<File, OriginError> {
        const ESCAPE: OriginError = OriginError::InvalidKey("the path leads out of the directory");
        let root = self.dir.canonicalize().map_err(Fault::Open)?;
        let Ok(target) = self.dir.join(path).canonicalize() else {
            return Err(ESCAPE);
        };
        let Ok(inside) = target.strip_prefix(&root) else {
            return Err(ESCAPE);
        };
        open_beneath(dir, inside).map_err(|error| if is_escape(&error) { ESCAPE } else { classify(error) })
    }
}

/// The path that a key names: nothing but plain names between slashes.
fn relative_path(key: &str) -> Result<PathBuf, OriginError> {
    if key.contains('\0') {
        return Err(OriginError::InvalidKey("the key contains a NUL"));
    }
    if key.starts_with('/') {
        return Err(OriginError::InvalidKey("the key is an absolute path"));
    }
    for name in key.split('/') {
        // Not only `.` and `..`: elsewhere than on Unix a name can hold a drive or a backslash, which is a separator there.
        let mut components = Path::new(name).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(plain)), None) if plain == OsStr::new(name) => {}
            (None, _) => return Err(OriginError::InvalidKey("the key has an empty path segment")),
            _ => return Err(OriginError::InvalidKey("the key has a path segment that is not a plain name")),
        }
    }
    Ok(key.into())
}

fn open_beneath(dir: &Dir, path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK the opening of a FIFO would wait for a writer, for ever. Regular files do not mind it.
    let mut options = OpenOptions::new();
    options.read(true).nonblock(true);
    dir.open_with(path, &options).map(cap_std::fs::File::into_std)
}

/// `cap-std` makes this error itself: the system's own "permission denied" has a code.
fn is_escape(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

fn classify(error: io::Error) -> OriginError {
    /// `ENXIO`: a socket cannot be opened as a file.
    const NO_SUCH_DEVICE_OR_ADDRESS: i32 = 6;
    match error.kind() {
        // A name that is too long for the file system is no file's.
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidFilename => OriginError::NotFound,
        _ if cfg!(unix) && error.raw_os_error() == Some(NO_SUCH_DEVICE_OR_ADDRESS) => OriginError::NotFound,
        _ => Fault::Open(error).into(),
    }
}

/// Reads `file` to its end, which may lie beyond the `expected` length, but not beyond the limit.
fn read_to_end(file: &mut impl Read, expected: u64, limit: usize) -> Result<Vec<u8>, OriginError> {
    let too_large = || OriginError::TooLarge(limit);
    let expected = usize::try_from(expected).ok().filter(|len| *len <= limit).ok_or_else(too_large)?;
    // One byte more than expected, so that the end is found without growing.
    let mut value = Vec::with_capacity(expected.saturating_add(1));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut value).map_err(Fault::Read)?;
    if value.len() > limit { Err(too_large()) } else { Ok(value) }
}

/// What is said beside a file: what its name says that it is, and which file it was. `began` is when it was read.
fn head_of(path: &Path, shape: &Shape, len: usize, began: SystemTime) -> Head {
    let mut head = Head::default();
    if let Some(kind) = mime_guess::from_path(path).first_raw() {
        head.set(&CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    // Files of /proc have no bytes, by what the system says, and no time at which they changed.
    let of_disk = u64::try_from(len) == Ok(shape.len);
    let (Some(tag), Some(modified), true) = (shape.tag(), shape.modified, of_disk) else { return head };
    if modified.checked_add(SETTLED).is_some_and(|settled| settled < began) {
        head.set(&ETAG, tag);
        if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(modified)) {
            head.set(&LAST_MODIFIED, date);
        }
    } else if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        head.set(&ETAG, weak);
    }
    head
}

/// What changes when a file is written to.
#[derive(PartialEq, Eq)]
struct Shape {
    len: u64,
    modified: Option<SystemTime>,
}

impl Shape {
    fn of(file: &File) -> Result<Self, OriginError> {
        let metadata = file.metadata().map_err(Fault::Read)?;
        Ok(Self { len: metadata.len(), modified: metadata.modified().ok() })
    }

    /// An entity tag; `None` for a file that is older than the epoch, or that the system tells no time of.
    fn tag(&self) -> Option<HeaderValue> {
        let since = self.modified?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        HeaderValue::try_from(format!("\"{:x}-{:x}\"", self.len, since.as_nanos())).ok()
    }
}
