//! How things end: exit codes, and errors as one sentence.

use std::io::{self, Write};
use std::process::ExitCode;

pub(crate) use groupcache_tokio::in_words as chain;

/// Why the process ends without success: a sentence for stderr and an exit code that says what kind it was.
#[derive(Debug)]
pub(crate) struct Exit {
    code: u8,
    message: String,
}

impl Exit {
    /// The key does not exist: code 1.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// A node could not start: code 1. Nothing is "not found" there.
    pub(crate) fn start(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// What was asked for was done, and did not go well: code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// The command line is at fault: code 2, as clap has it.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// Anything else: code 3.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into() }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

/// Writes a line to stderr, without the passwords of URLs in it. That nobody reads stderr any more is no reason to fail.
pub(crate) fn say(line: &str) {
    drop(writeln!(io::stderr(), "{}", redacted(line)));
}

/// Whether what is sent to this URL, or `host:port`, crosses a network in plain text. `secured`: what has no scheme is spoken to over TLS.
pub(crate) fn crosses_in_plain_text(url: &str, secured: bool) -> bool {
    let rest = match url.split_once("://") {
        Some(("https", _)) => return false,
        Some((_, rest)) => rest,
        None if secured => return false,
        None => url,
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    host != "localhost" && !host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `text`, with stars in place of the user and password of every URL in it.
pub(crate) fn redacted(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c == '/' || c == '"' || c == '\'' || c == '`' || c.is_whitespace());
        let (authority, rest) = part.split_at(end.unwrap_or(part.len()));
        shown.push_str("://");
        match authority.rsplit_once('@') {
            Some((_, host)) => shown.extend(["***@", host]),
            None => shown.push_str(authority),
        }
        shown.push_str(rest);
    }
    shown
}

/// Writes to stdout and flushes. A reader that left (`groupcache get ... | head -c 10`) has what it wanted.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Exit> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Exit::other(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_this_machine_or_is_encrypted_cannot_be_read_on_the_way() {
        for url in ["https://h:1", "http://127.0.0.1:1/", "localhost:80", "http://[::1]:1"] {
            assert!(!crosses_in_plain_text(url, false), "{url}");
        }
        assert!(crosses_in_plain_text("http://h:1", true) && crosses_in_plain_text("10.0.0.1:1", false));
        assert!(!crosses_in_plain_text("10.0.0.1:1", true));
    }

    #[test]
    fn users_and_passwords_of_urls_are_not_shown() {
        for (text, shown) in [
            (
                "group = [\"a=http://u:s3c@ret@h:1/p@q/\", \"b=https://h/\"]",
                "group = [\"a=http://***@h:1/p@q/\", \"b=https://h/\"]",
            ),
            ("`http://u:p@h`: no path", "`http://***@h`: no path"),
            ("http://token@h", "http://***@h"),
            ("no URL: me@home", "no URL: me@home"),
            ("a:// b@c", "a:// b@c"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }
}
