//! What callers have to know, where a fleet wants that: tokens that are shared with them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderValue;
use subtle::{Choice, ConstantTimeEq};

/// The shortest token, in bytes: what a machine makes is longer, and what a person thinks of is often not.
const MIN: usize = 16;
/// The longest.
const MAX: usize = 4096;
/// The largest file of them.
const MAX_FILE: u64 = 64 * 1024;

const SCHEME: &[u8] = b"bearer ";

/// Tokens, one of which a caller must send: `authorization: Bearer TOKEN`, over HTTP and in the metadata of a gRPC call. A clone is the same tokens.
///
/// Any of them is taken, and the first is what this node sends to its peers: so that all nodes of a fleet can be told of a new one before the old
/// one goes. Over plain text a token can be read on its way. None is in any debug output, error or log line.
#[derive(Clone)]
pub struct Tokens {
    shared: Arc<Shared>,
    only_writes: bool,
}

struct Shared {
    file: Option<PathBuf>,
    known: RwLock<Arc<Known>>,
}

struct Known {
    tokens: Vec<String>,
    /// What this node sends.
    header: HeaderValue,
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Access {
    /// To read.
    Read,
    /// To remove.
    Write,
}

/// Why tokens cannot be used. None of it says what they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The file cannot be read.
    #[error("the tokens cannot be read from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is none.
    #[error("there is no token: one stands on a line of its own, and `openssl rand -base64 32` makes one")]
    None,
    /// One is too short or too long.
    #[error(
        "token {number} has {len} bytes: it takes {MIN} to {MAX}, and `openssl rand -base64 32` makes one"
    )]
    Length {
        /// Which of them, from 1.
        number: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// One could not be sent.
    #[error("token {number} has a character that no header can carry: it takes visible ASCII")]
    Character {
        /// Which of them, from 1.
        number: usize,
    },
}

/// Why a caller is refused. It says what to do, and nothing of what would have been right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefused {
    /// It sent none.
    #[error(
        "a token is wanted here: send it as `authorization: Bearer TOKEN` (groupcache: --token-file FILE)"
    )]
    Missing,
    /// It sent one that is not known.
    #[error("the token that was sent is none of this node's: is it of the same --token-file, or an old one?")]
    Unknown,
}

impl Tokens {
    /// These tokens, the first of which is sent.
    ///
    /// # Errors
    /// There is none, or one is not of 16 to 4096 characters of visible ASCII.
    pub fn new(tokens: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, TokensError> {
        let known = Known::new(tokens.into_iter().map(Into::into).collect())?;
        Ok(Self::of(known, None))
    }

    /// Reads tokens from a file, one on each line; empty lines do not count. It is read again by [`reload`](Self::reload).
    ///
    /// # Errors
    /// The file cannot be read, has more than 64 KiB, or holds no good tokens.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokensError> {
        let path = path.as_ref().to_owned();
        Ok(Self::of(Known::read(&path)?, Some(path)))
    }

    fn of(known: Known, file: Option<PathBuf>) -> Self {
        let shared = Shared { file, known: RwLock::new(Arc::new(known)) };
        Self { shared: Arc::new(shared), only_writes: false }
    }

    /// Lets everybody read: only what removes needs a token.
    #[must_use]
    pub fn only_for_writes(self, only_writes: bool) -> Self {
        Self { only_writes, ..self }
    }

    /// Reads the file again, where the tokens are of one: for all clones. Whether they have changed.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file). The tokens stay as they were.
    pub fn reload(&self) -> Result<bool, TokensError> {
        let Some(file) = &self.shared.file else { return Ok(false) };
        let read = Known::read(file)?;
        let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        let changed = known.tokens != read.tokens;
        *known = Arc::new(read);
        Ok(changed)
    }

    /// Whether a caller may do this, given what it sent as `authorization`. The time that it takes says nothing of the tokens but their lengths.
    ///
    /// # Errors
    /// It may not: what it has to be told.
    pub fn admit(&self, access: Access, authorization: Option<&[u8]>) -> Result<(), TokenRefused> {
        if self.only_writes && access == Access::Read {
            return Ok(());
        }
        let sent = authorization.and_then(|sent| sent.split_at_checked(SCHEME.len()));
        let sent = sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
        let (_, sent) = sent.ok_or(TokenRefused::Missing)?;
        let known = self.known();
        // All are looked at, whichever fits.
        let fits =
            known.tokens.iter().fold(Choice::from(0), |fits, token| fits | token.as_bytes().ct_eq(sent));
        if bool::from(fits) { Ok(()) } else { Err(TokenRefused::Unknown) }
    }

    /// What a caller sends as `authorization`: marked, so that nothing that handles it shows it.
    #[must_use]
    pub fn authorization(&self) -> HeaderValue {
        self.known().header.clone()
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.shared.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("only_writes", &self.only_writes).finish_non_exhaustive()
    }
}

impl Known {
    fn read(path: &Path) -> Result<Self, TokensError> {
        let failed = |source| TokensError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        let read = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if read as u64 > MAX_FILE {
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 64 KiB")));
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Self::new(lines.map(str::to_owned).collect())
    }

    fn new(tokens: Vec<String>) -> Result<Self, TokensError> {
        for (number, token) in (1..).zip(&tokens) {
            let len = token.len();
            if !(MIN..=MAX).contains(&len) {
                return Err(TokensError::Length { number, len });
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(TokensError::Character { number });
            }
        }
        let first = tokens.first().ok_or(TokensError::None)?;
        let mut header = HeaderValue::try_from(format!("Bearer {first}"))
            .map_err(|_| TokensError::Character { number: 1 })?;
        header.set_sensitive(true);
        Ok(Self { tokens, header })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0123456789abcdef";
    const NEW: &str = "fedcba9876543210";

    fn tokens(of: &[&str]) -> Result<Tokens, TokensError> {
        Tokens::new(of.iter().copied())
    }

    #[test]
    fn any_of_the_tokens_is_taken_and_nothing_else() {
        let tokens = tokens(&[NEW, OLD]).expect("good tokens");
        let admit = |sent: &str| tokens.admit(Access::Read, Some(sent.as_bytes()));
        assert_eq!(admit("Bearer fedcba9876543210"), Ok(()));
        assert_eq!(admit("bearer 0123456789abcdef"), Ok(()));
        for unknown in
            ["Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdeff", "Bearer 0123456789ABCDEF"]
        {
            assert_eq!(admit(unknown), Err(TokenRefused::Unknown), "{unknown}");
        }
        assert_eq!(admit(&format!("Bearer {}", "x".repeat(4 << 20))), Err(TokenRefused::Unknown));
        for none in ["", "Bearer", "Basic 0123456789abcdef", OLD] {
            assert_eq!(admit(none), Err(TokenRefused::Missing), "{none}");
        }
        assert_eq!(tokens.admit(Access::Write, None), Err(TokenRefused::Missing));
        assert_eq!(tokens.authorization().as_bytes(), format!("Bearer {NEW}").as_bytes());
    }

    #[test]
    fn reading_may_be_left_open() {
        let tokens = tokens(&[OLD]).expect("a good token").only_for_writes(true);
        assert_eq!(tokens.admit(Access::Read, None), Ok(()));
        assert_eq!(tokens.admit(Access::Write, None), Err(TokenRefused::Missing));
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_shown() {
        let too_long = "x".repeat(MAX + 1);
        for (of, reason) in [
            (&[][..], "there is no token"),
            (&[OLD, "s3cret"], "token 2 has 6 bytes"),
            (&[&too_long], "4097 bytes"),
            (&["s3cret with some spaces"], "visible ASCII"),
        ] {
            let error = tokens(of).expect_err("no good tokens");
            assert!(error.to_string().contains(reason), "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"));
        }
        let shown = format!("{:?}", tokens(&[OLD]).map(|tokens| (tokens.authorization(), tokens)));
        assert!(!shown.contains(OLD), "{shown}");
    }

    #[test]
    fn a_file_of_tokens_is_read_again_on_demand_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("tokens");
        let write = |text: &[u8]| std::fs::write(&file, text).expect("a file");
        write(format!("{OLD}\r\n\n").as_bytes());
        let tokens = Tokens::from_file(&file).expect("a token");
        let sent = || format!("{:?}", tokens.authorization().to_str());
        assert!(sent().contains(OLD) && !tokens.reload().expect("the same"));
        write(format!("{NEW}\n{OLD}\n").as_bytes());
        let clone = tokens.clone();
        assert!(clone.reload().expect("another") && sent().contains(NEW));
        for bad in [&b"\n"[..], b"short", &[0xff; 20], &vec![b'x'; 100_000]] {
            write(bad);
            assert!(tokens.reload().is_err() && sent().contains(NEW));
        }
        std::fs::remove_file(&file).expect("it was there");
        assert!(matches!(tokens.reload(), Err(TokensError::Read { path, .. }) if path == file));
    }
}
