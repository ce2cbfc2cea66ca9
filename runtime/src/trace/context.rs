//! W3C trace context, level 1: what names a trace across processes, read strictly and written exactly.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::num::{NonZeroU64, NonZeroU128};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// A place in a trace: which trace, which span of it, whether it is sampled, and what its vendors say.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: NonZeroU128,
    span: NonZeroU64,
    is_sampled: bool,
    state: Option<Arc<str>>,
}

/// The name of the header, or of the metadata, that carries a context.
pub const TRACEPARENT: &str = "traceparent";

/// The name of the one that carries what vendors say.
pub const TRACESTATE: &str = "tracestate";

/// The length of a `traceparent` of version 00, in bytes.
const LEN: usize = 55;

/// The most that a `tracestate` may have: members, and bytes. Longer ones are left out, as the specification lets us.
const MAX_MEMBERS: usize = 32;
const MAX_STATE: usize = 512;

thread_local! {
    static CURRENT: RefCell<Option<TraceContext>> = const { RefCell::new(None) };
}

impl TraceContext {
    /// A context of trace `trace` and span `span`, without a `tracestate`.
    #[must_use]
    pub const fn new(trace: NonZeroU128, span: NonZeroU64, is_sampled: bool) -> Self {
        Self { trace, span, is_sampled, state: None }
    }

    /// Reads a `traceparent` and, where there is one, its `tracestate`.
    ///
    /// Whatever bytes they are: `None` for a `traceparent` that is not one to the letter of the specification. A `tracestate` that is none, or too long, is
    /// left out, and the rest holds.
    #[must_use]
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        let (version, rest) = (bytes.get(..2)?, bytes.get(2..LEN)?);
        let version = hex(version)? as u8;
        // A later version may say more, behind a hyphen.
        let is_whole = match version {
            0 => bytes.len() == LEN,
            0xff => false,
            _ => bytes.get(LEN).is_none_or(|&next| next == b'-'),
        };
        let hyphens = [rest[0], rest[33], rest[50]];
        if !is_whole || hyphens != [b'-'; 3] {
            return None;
        }
        let trace = NonZeroU128::new(hex(&rest[1..33])?)?;
        let span = NonZeroU64::new(hex(&rest[34..50])? as u64)?;
        let is_sampled = hex(&rest[51..53])? & 1 == 1;
        let state = tracestate.filter(|state| is_state(state)).map(Arc::from);
        Some(Self { trace, span, is_sampled, state })
    }

    /// The context of a span below this one: of the same trace.
    #[must_use]
    pub fn child(&self, span: NonZeroU64) -> Self {
        Self { span, ..self.clone() }
    }

    /// The `traceparent` of this context: version 00, 55 bytes.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }

    /// The `tracestate`, where it has one.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Sets what vendors say. What is no `tracestate` is left out.
    #[must_use]
    pub fn with_tracestate(mut self, state: &str) -> Self {
        self.state = Some(state).filter(|state| is_state(state)).map(Arc::from);
        self
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(&self) -> NonZeroU128 {
        self.trace
    }

    /// The span.
    #[must_use]
    pub const fn span_id(&self) -> NonZeroU64 {
        self.span
    }

    /// Whether whoever began the trace wants it recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// The context that the calling code runs in, by [`scope`](Self::scope): inside of a retriever of a traced node, that of its load.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Runs `future` in this context: its [`current`](Self::current) one, whichever threads it runs on.
    pub fn scope<F: Future>(self, future: F) -> Scoped<F> {
        Scoped { future, context: Some(self) }
    }
}

impl fmt::Display for TraceContext {
    /// The `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.traceparent())
    }
}

pin_project! {
    /// A future in a context of its own. Made by [`TraceContext::scope`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        #[pin]
        future: F,
        context: Option<TraceContext>,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        /// Puts back what was there, also when the future panics.
        struct Restore<'a>(&'a mut Option<TraceContext>);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| std::mem::swap(current, self.0));
            }
        }
        let this = self.project();
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, this.context));
        let _restore = Restore(this.context);
        this.future.poll(cx)
    }
}

/// Lower-case hexadecimal digits, at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Whether it is a list of vendors' members as the specification has it: `key=value` separated by commas, each key once.
fn is_state(state: &str) -> bool {
    // First of all: the rest takes its time over what a peer sends.
    if state.len() > MAX_STATE {
        return false;
    }
    let members: Vec<&str> = state.split(',').map(|member| member.trim_matches([' ', '\t'])).collect();
    let keys: Vec<&str> = members.iter().filter_map(|member| Some(member.split_once('=')?.0)).collect();
    let is_member = |member: &&str| {
        // An empty one is allowed, and says nothing.
        member.is_empty() || member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
    };
    let is_once = |(at, key): (usize, &&str)| !keys[..at].contains(key);
    !keys.is_empty()
        && members.len() <= MAX_MEMBERS
        && members.iter().all(is_member)
        && keys.iter().enumerate().all(is_once)
}

fn is_key(key: &str) -> bool {
    let is_rest = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/')
    };
    let (tenant, system) = key.split_once('@').map_or((key, None), |(tenant, system)| (tenant, Some(system)));
    let is_part = |part: &str, most: usize| {
        let first = part.bytes().next();
        first.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && part.len() <= most
            && part.bytes().all(is_rest)
    };
    match system {
        None => is_part(tenant, 256),
        Some(system) => is_part(tenant, 241) && is_part(system, 14),
    }
}

fn is_value(value: &str) -> bool {
    let is_printable = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b',' && byte != b'=';
    !value.is_empty() && value.len() <= 256 && value.bytes().all(is_printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_to_the_letter() {
        let context = TraceContext::parse(PARENT, Some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"));
        let context = context.expect("the specification's own");
        assert_eq!(
            (context.trace_id().get(), context.span_id().get()),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7)
        );
        assert!(context.is_sampled());
        assert_eq!(context.traceparent(), PARENT);
        assert_eq!(context.tracestate(), Some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"));
        let child = context.child(NonZeroU64::MIN);
        assert_eq!(child.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
        assert_eq!(child.tracestate(), context.tracestate());
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let zeros = "0".repeat(32);
        for bad in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("{PARENT}0"),
            &format!(" {PARENT}"),
            &PARENT.replace("4bf9", "4BF9"),
            &PARENT.replace('-', "_"),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replacen("00", "0g", 1),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zeros),
            &PARENT.replace("00f067aa0ba902b7", &zeros[..16]),
            &PARENT.replacen("-01", "-0x", 1),
            &format!("01{}x", &PARENT[2..]),
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-0",
        ] {
            assert_eq!(TraceContext::parse(bad, None), None, "{bad:?}");
        }
        // Every byte counts: no other one is taken in its place.
        for at in 0..LEN {
            for byte in [b'-', b' ', b'G', b'g', 0, 0x7f] {
                let mut bytes = PARENT.as_bytes().to_vec();
                bytes[at] = byte;
                let text = String::from_utf8(bytes).expect("ASCII");
                assert!(text == PARENT || TraceContext::parse(&text, None).is_none(), "{text:?}");
            }
        }
    }

    #[test]
    fn a_later_version_may_say_more_and_flags_of_others_are_not_passed_on() {
        let later = format!("cc{}-what comes later", &PARENT[2..]);
        let context = TraceContext::parse(&later, None).expect("it begins as one");
        assert_eq!(context.traceparent(), PARENT);
        let flags = TraceContext::parse(&PARENT.replace("-01", "-fe"), None).expect("flags");
        assert!(!flags.is_sampled() && flags.traceparent().ends_with("-00"));
    }

    #[test]
    fn a_tracestate_that_is_none_is_left_out_and_the_context_holds() {
        let state = |state: &str| TraceContext::parse(PARENT, Some(state)).expect("a context").state;
        for good in ["a=1", "a=1,b=2", "a=1, b=2", "a=1,,b=2", "1a/b-c_d*=x y", "tenant@system=v", "a= ~!"] {
            assert_eq!(state(good).as_deref(), Some(good));
        }
        let (long, many) = (format!("a={}", "x".repeat(257)), vec!["a"; 33].join("=1,"));
        for bad in [
            "", ",", "a", "a=", "=1", "A=1", "a=1,a=2", "a=é", "a=1=2", "a\n=1", "a=\n", "@b=1", "a@=1",
            &long, &many,
        ] {
            assert_eq!(state(bad), None, "{bad:?}");
        }
        let wide: Vec<String> = (0..10).map(|n| format!("k{n}={}", "x".repeat(60))).collect();
        assert_eq!(state(&wide.join(",")), None, "beyond 512 bytes");
    }

    #[test]
    fn a_scope_is_in_force_while_its_future_is_polled_and_scopes_nest() {
        use futures_util::FutureExt;

        let of = |n| TraceContext::new(NonZeroU128::MIN, NonZeroU64::new(n).expect("above zero"), true);
        let span = || TraceContext::current().map(|context| context.span_id().get());
        let inner = async || {
            let before = span();
            let deeper = of(2).scope(async { span() }).await;
            (before, deeper, span())
        };
        let seen = of(1).scope(inner()).now_or_never();
        assert_eq!((seen, span()), (Some((Some(1), Some(2), Some(1))), None));
        let panics = of(3).scope(async { panic!("on purpose") });
        assert!(std::panic::catch_unwind(|| panics.now_or_never()).is_err());
        assert_eq!(span(), None, "a panic leaves nothing behind");
    }
}
