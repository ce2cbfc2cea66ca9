//! What can go wrong, cut by who is at fault: the configuration, the caller's request, or what was asked for.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::error::Error;
use core::fmt;

use crate::id::PeerId;

/// An error's cause as the core keeps it: shared, since every waiter of a flight gets it.
pub type Cause = Arc<dyn Error + Send + Sync + 'static>;

/// The configuration is at fault: what it says cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field's value lies outside its range.
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// What the field takes.
        expected: &'static str,
    },
    /// The tables do not fit in memory.
    OutOfMemory,
    /// A ring cannot be built from these members.
    Ring(RingError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { field, expected } => write!(f, "config field `{field}` must be {expected}"),
            Self::OutOfMemory => {
                f.write_str("the tables do not fit in memory: lower the budget or the limits")
            }
            Self::Ring(_) => f.write_str("the ring cannot be built from these members"),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Ring(error) => Some(error),
            Self::OutOfRange { .. } | Self::OutOfMemory => None,
        }
    }
}

/// The list of members is at fault: no ring can be built from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// Two members have the same name.
    DuplicateMember(String),
    /// Two members have the same id.
    DuplicateId {
        /// The id.
        id: PeerId,
        /// The members' names.
        members: [String; 2],
    },
    /// A member's name is empty.
    EmptyName,
    /// A member's weight is 0, or over the scheme's maximum.
    BadWeight {
        /// The member.
        member: String,
        /// Its weight.
        weight: u32,
        /// The largest weight that the scheme takes; the smallest is 1.
        max: u32,
    },
    /// More members than the scheme can place.
    TooManyMembers {
        /// How many there are.
        count: usize,
        /// How many the scheme takes.
        max: usize,
    },
    /// No placement scheme has this name.
    UnknownScheme(String),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateMember(name) => write!(f, "member `{name}` is listed twice"),
            Self::DuplicateId { id, members: [a, b] } => {
                write!(f, "members `{a}` and `{b}` have the same id, {}", id.index())
            }
            Self::EmptyName => f.write_str("a member's name is empty"),
            Self::BadWeight { member, weight, max } => {
                write!(f, "member `{member}` has weight {weight}: weights go from 1 to {max}")
            }
            Self::TooManyMembers { count, max } => {
                write!(f, "{count} members: this scheme places at most {max}")
            }
            Self::UnknownScheme(name) => {
                write!(
                    f,
                    "no placement scheme is named `{name}`: there are `slots/1`, `slots/1/18`, `slots/1/20` and `go-seed`"
                )
            }
        }
    }
}

impl Error for RingError {}

/// The caller's request is at fault, or a limit is reached: refused at once, and no state has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The key has no bytes.
    EmptyKey,
    /// The key is longer than `max_key_len`.
    KeyTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// No group has this id.
    NoSuchGroup,
    /// `max_flights` loads are in progress.
    FlightsFull {
        /// The limit.
        max: u32,
    },
    /// `max_waiters` callers wait, or `max_waiters_per_flight` for this key.
    WaitersFull {
        /// The limit that was reached.
        max: u32,
    },
    /// The group has `max_loads` loads in progress.
    GroupLoadsFull {
        /// The limit.
        max: u32,
    },
    /// As many removals are under way as may be.
    RemovalsFull {
        /// The limit.
        max: u32,
    },
    /// As many requests of peers are in progress as may be.
    RequestsFull {
        /// The limit.
        max: u32,
    },
    /// The deadline has passed already.
    DeadlinePassed,
    /// The machine was shut down.
    Stopped,
}

impl LoadError {
    /// The kind that this refusal has on the wire.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        match self {
            Self::EmptyKey | Self::KeyTooLong { .. } => FailureKind::InvalidKey,
            Self::NoSuchGroup => FailureKind::NoSuchGroup,
            Self::FlightsFull { .. }
            | Self::WaitersFull { .. }
            | Self::GroupLoadsFull { .. }
            | Self::RemovalsFull { .. }
            | Self::RequestsFull { .. } => FailureKind::Overloaded,
            Self::DeadlinePassed => FailureKind::Deadline,
            Self::Stopped => FailureKind::Stopping,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyKey => f.write_str("the key is empty"),
            Self::KeyTooLong { len, max } => write!(f, "the key has {len} bytes: the limit is {max}"),
            Self::NoSuchGroup => f.write_str("no such group"),
            Self::FlightsFull { max } => write!(f, "{max} loads are in progress, the limit"),
            Self::WaitersFull { max } => write!(f, "{max} callers wait, the limit"),
            Self::GroupLoadsFull { max } => write!(f, "the group has {max} loads in progress, the limit"),
            Self::RemovalsFull { max } => write!(f, "{max} removals are under way, the limit"),
            Self::RequestsFull { max } => write!(f, "{max} requests are in progress, the limit"),
            Self::DeadlinePassed => f.write_str("the deadline has passed"),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl Error for LoadError {}

/// The kinds of failure that a waiter can be completed with. They cross the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The origin has no such key: authoritative when the owner says so, and cached.
    NotFound,
    /// The origin was asked and failed.
    OriginFailed,
    /// A limit of the node that was asked is reached.
    Overloaded,
    /// Time ran out.
    Deadline,
    /// The node that was asked has no such group.
    NoSuchGroup,
    /// The key is empty, too long, or not UTF-8 where the wire wants that.
    InvalidKey,
    /// The value is larger than the value limit.
    ValueTooLarge,
    /// The node is stopping.
    Stopping,
}

impl FailureKind {
    /// Every kind, in the order of the wire's numbers.
    pub const ALL: [Self; 8] = [
        Self::NotFound,
        Self::OriginFailed,
        Self::Overloaded,
        Self::Deadline,
        Self::NoSuchGroup,
        Self::InvalidKey,
        Self::ValueTooLarge,
        Self::Stopping,
    ];

    /// Whether a peer that answers so speaks of itself and not of the key: it has no answer, and another source may have one. See
    /// [`Outcome::from_peer`](crate::Outcome::from_peer).
    #[must_use]
    pub const fn is_about_the_peer(self) -> bool {
        match self {
            Self::Overloaded | Self::NoSuchGroup | Self::Stopping => true,
            Self::NotFound | Self::OriginFailed | Self::Deadline | Self::InvalidKey | Self::ValueTooLarge => {
                false
            }
        }
    }

    /// A stable, short name: `not_found`, `origin_failed`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::OriginFailed => "origin_failed",
            Self::Overloaded => "overloaded",
            Self::Deadline => "deadline",
            Self::NoSuchGroup => "no_such_group",
            Self::InvalidKey => "invalid_key",
            Self::ValueTooLarge => "value_too_large",
            Self::Stopping => "stopping",
        }
    }
}

/// Why a waiter did not get a value. Cheap to clone: all waiters of a flight get the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// What kind of failure, as it crosses the wire.
    pub kind: FailureKind,
    /// What lies behind it, where that is known.
    pub cause: Option<Cause>,
}

impl Failure {
    /// A failure with no further cause.
    #[must_use]
    pub const fn new(kind: FailureKind) -> Self {
        Self { kind, cause: None }
    }

    /// A failure and the error behind it.
    #[must_use]
    pub const fn with_cause(kind: FailureKind, cause: Cause) -> Self {
        Self { kind, cause: Some(cause) }
    }

    /// A failure and what is known of it in words: what a peer said, or which limit was hit.
    #[must_use]
    pub fn with_message(kind: FailureKind, message: impl Into<Box<str>>) -> Self {
        Self { kind, cause: Some(Arc::new(Message(message.into()))) }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::with_cause(error.kind(), Arc::new(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            FailureKind::NotFound => "not found",
            FailureKind::OriginFailed => "the origin failed",
            FailureKind::Overloaded => "overloaded",
            FailureKind::Deadline => "deadline passed",
            FailureKind::NoSuchGroup => "no such group",
            FailureKind::InvalidKey => "invalid key",
            FailureKind::ValueTooLarge => "the value is too large",
            FailureKind::Stopping => "the node is stopping",
        })
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

/// An error and all its causes as one sentence: `the origin failed: cannot read: Input/output error`. A cause that the words before it end with is not
/// said again.
#[must_use]
pub fn in_words(error: &dyn Error) -> String {
    let mut sentence = String::new();
    say(&mut sentence, error);
    let mut next = error.source();
    while let Some(cause) = next {
        let mut words = String::new();
        say(&mut words, cause);
        if !sentence.ends_with(&words) {
            sentence.push_str(": ");
            sentence.push_str(&words);
        }
        next = cause.source();
    }
    sentence
}

/// Writing to a `String` fails only where a `Display` does: what it wrote before is kept.
fn say(text: &mut String, error: &dyn Error) {
    let _ = fmt::Write::write_fmt(text, format_args!("{error}"));
}

/// A cause that is known in words only.
#[derive(Debug)]
struct Message(Box<str>);

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Message {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<dyn Error>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref()
        }
    }

    /// Says something, and then that it cannot.
    #[derive(Debug)]
    struct Mute;

    impl fmt::Display for Mute {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half a")?;
            Err(fmt::Error)
        }
    }

    impl Error for Mute {}

    #[test]
    fn an_error_and_its_causes_become_one_sentence_that_says_nothing_twice() {
        assert_eq!(
            in_words(&Failure::with_message(FailureKind::OriginFailed, "disk on fire")),
            "the origin failed: disk on fire"
        );
        let twice =
            |outer| Layer(outer, Some(Box::new(Layer("disk on fire", Some(Box::new(Layer("smoke", None)))))));
        assert_eq!(in_words(&twice("cannot read: disk on fire")), "cannot read: disk on fire: smoke");
        assert_eq!(in_words(&twice("cannot read")), "cannot read: disk on fire: smoke");
        assert_eq!(in_words(&Layer("cannot say", Some(Box::new(Mute)))), "cannot say: half a");
        assert_eq!(
            format!("{}", Failure::new(FailureKind::NotFound)),
            in_words(&Failure::new(FailureKind::NotFound))
        );
    }

    #[test]
    fn every_kind_of_failure_has_the_name_that_peers_know_it_by() {
        let names = FailureKind::ALL.map(FailureKind::name);
        let known = [
            "not_found",
            "origin_failed",
            "overloaded",
            "deadline",
            "no_such_group",
            "invalid_key",
            "value_too_large",
            "stopping",
        ];
        assert_eq!(names, known);
    }

    #[test]
    fn a_refused_request_fails_in_the_kind_that_tells_who_is_at_fault_and_keeps_the_reason() {
        let max = 7;
        for (error, kind) in [
            (LoadError::EmptyKey, FailureKind::InvalidKey),
            (LoadError::KeyTooLong { len: 8, max: 7 }, FailureKind::InvalidKey),
            (LoadError::NoSuchGroup, FailureKind::NoSuchGroup),
            (LoadError::FlightsFull { max }, FailureKind::Overloaded),
            (LoadError::WaitersFull { max }, FailureKind::Overloaded),
            (LoadError::GroupLoadsFull { max }, FailureKind::Overloaded),
            (LoadError::RemovalsFull { max }, FailureKind::Overloaded),
            (LoadError::RequestsFull { max }, FailureKind::Overloaded),
            (LoadError::DeadlinePassed, FailureKind::Deadline),
            (LoadError::Stopped, FailureKind::Stopping),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.kind, kind, "{error}");
            assert_eq!(failure.cause.map(|cause| format!("{cause}")), Some(format!("{error}")));
        }
    }
}
