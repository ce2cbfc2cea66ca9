//! The connection to the peer: dialled, made, lost, and left in order.

use alloc::sync::Arc;

use super::{Cause, DialId, Disposition, Effects, Instant, Intent, Link, LinkRefused, Protocol, State};

impl Link {
    /// The dial succeeded: the peer has answered something, which a process that is stopped or wedged does not, however well it accepts
    /// connections; and it has shown how it is to be spoken to. Who cannot tell says [`Protocol::Batched`]: the link finds out.
    ///
    /// Stale says that the connection is not wanted: close it.
    pub fn handle_connected<W>(
        &mut self,
        now: Instant,
        dial: DialId,
        protocol: Protocol,
        out: &mut Effects<W>,
    ) -> Disposition {
        let now = self.clock.observe(now);
        if self.dialled != Some(dial) {
            return self.stale();
        }
        self.dialled = None;
        self.connection = Some(dial);
        self.state = State::Up { since: now };
        self.protocol = protocol;
        self.failures_in_a_row = 0;
        self.send_ready(now, out);
        Disposition::Applied
    }

    /// A connection takes no more calls, as a peer says that stops in order; calls in flight may still be answered. What is queued is unreachable, and
    /// fetches are refused until another connection is there. [`handle_disconnected`](Self::handle_disconnected) follows when no answer can come any more.
    ///
    /// This and [`handle_lost`](Self::handle_lost) are for who can tell them: a loop that only knows that a connection is gone, and hands in by then what
    /// has come by it, leaves them out.
    pub fn handle_draining<W>(&mut self, now: Instant, dial: DialId, out: &mut Effects<W>) -> Disposition {
        self.part_with(now, dial, true, out)
    }

    /// A connection broke, and answers that it has brought may still be on their way to this link: the link redials at once, and holds fetches for that
    /// long. [`handle_disconnected`](Self::handle_disconnected) follows when no answer can come any more.
    pub fn handle_lost<W>(&mut self, now: Instant, dial: DialId, out: &mut Effects<W>) -> Disposition {
        self.part_with(now, dial, false, out)
    }

    fn part_with<W>(
        &mut self,
        now: Instant,
        dial: DialId,
        in_order: bool,
        out: &mut Effects<W>,
    ) -> Disposition {
        let now = self.clock.observe(now);
        if self.connection != Some(dial) {
            return self.stale();
        }
        self.connection = None;
        let cause: Cause = Arc::new(LinkRefused::Down);
        if self.has_lasted(now) {
            let until = self.dial(now, out);
            if in_order {
                self.stats.opened += 1;
                self.state = State::Redialling { until };
                self.fail_queue(Some(&cause), out);
            } else {
                self.state = State::Dialling { until };
            }
        } else if self.state != State::Leaving {
            self.go_down(now, Some(&cause), out);
        }
        Disposition::Applied
    }

    /// The dial failed, or the connection is gone. What was in flight on it is unreachable.
    pub fn handle_disconnected<W>(
        &mut self,
        now: Instant,
        dial: DialId,
        cause: Option<Cause>,
        out: &mut Effects<W>,
    ) -> Disposition {
        let now = self.clock.observe(now);
        let cause = cause.as_ref();
        let broke_off = self.fail_in_flight(Some(dial), cause, out);
        let was_awaited = self.dialled.take_if(|dialled| *dialled == dial).is_some();
        let was_connected = self.connection.take_if(|connection| *connection == dial).is_some();
        let had_given_up = matches!(self.state, State::Down { .. });
        if was_connected && self.has_lasted(now) {
            let until = self.dial(now, out);
            self.state = State::Dialling { until };
        } else if was_connected || (was_awaited && !had_given_up) {
            // A connection that breaks as soon as it is made is no better than none.
            if self.state != State::Leaving {
                self.go_down(now, cause, out);
            }
        } else if !broke_off {
            return self.stale();
        }
        // Batches on a connection that took no more calls have made room for those that wait.
        self.send_ready(now, out);
        self.close_if_done(out);
        Disposition::Applied
    }

    /// The peer has shown itself: it dialled this node, say. A link that waits to redial does so now, or as soon as `backoff_base` has passed since
    /// its last dial.
    pub fn handle_seen<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Disposition {
        let now = self.clock.observe(now);
        let State::Down { until } = self.state else { return Disposition::Stale };
        if self.connection.is_some() {
            return Disposition::Stale;
        }
        let rested = self.dialled_at.saturating_add(self.config.backoff_base);
        // Kept in mind when it is too early: who starts shows itself once, and the next redial may be far off.
        self.state = if now < rested {
            State::Down { until: until.min(rested) }
        } else {
            State::Redialling { until: self.dial(now, out) }
        };
        Disposition::Applied
    }

    /// The peer has left the ring. What is queued is unreachable, and fetches are refused. When nothing is in flight any more, which may be at once and
    /// is at the latest of the deadlines, the link closes, and an [`Intent::Forget`] says so.
    pub fn handle_left<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Disposition {
        self.clock.observe(now);
        if matches!(self.state, State::Leaving | State::Closed) {
            return Disposition::Stale;
        }
        self.state = State::Leaving;
        self.dialled = None;
        let cause: Cause = Arc::new(LinkRefused::Closed);
        self.fail_queue(Some(&cause), out);
        self.close_if_done(out);
        Disposition::Applied
    }

    /// The peer is on the ring again, after a [`handle_left`](Self::handle_left). Stale where it had not left, and where the link is closed: then it is
    /// to be made anew.
    pub fn handle_returned<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Disposition {
        let now = self.clock.observe(now);
        if self.state != State::Leaving {
            return Disposition::Stale;
        }
        // Its breaker, if it was open, is closed: failures count anew.
        self.failures_in_a_row = 0;
        self.state = match self.connection {
            Some(_) => State::Up { since: now },
            None if self.on_demand => State::Idle,
            None => State::Dialling { until: self.dial(now, out) },
        };
        Disposition::Applied
    }

    /// Closes the link at once: what is queued or in flight is unreachable.
    pub fn close<W>(&mut self, now: Instant, out: &mut Effects<W>) {
        let cause: Cause = Arc::new(LinkRefused::Closed);
        self.fail_in_flight(None, Some(&cause), out);
        let _ = self.handle_left(now, out);
        self.close_if_done(out);
    }

    pub(super) fn close_if_done<W>(&mut self, out: &mut Effects<W>) {
        if self.state == State::Leaving && self.in_flight.is_empty() {
            self.state = State::Closed;
            self.connection = None;
            out.intents.push(Intent::Forget { peer: self.peer });
        }
    }

    pub(super) fn dial<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Instant {
        let dial = DialId::new(self.generation, self.stats.dials);
        self.stats.dials += 1;
        self.dialled = Some(dial);
        self.dialled_at = now;
        out.intents.push(Intent::Connect { peer: self.peer, dial, name: Arc::clone(&self.name) });
        now.saturating_add(self.config.connect_timeout)
    }

    /// Opens the breaker. What is in flight on a connection that takes no more calls is not concerned.
    pub(super) fn go_down<W>(&mut self, now: Instant, cause: Option<&Cause>, out: &mut Effects<W>) {
        // A redial that failed leaves the breaker as open as it was.
        self.stats.opened += u64::from(!matches!(self.state, State::Redialling { .. }));
        self.state = State::Down { until: now.saturating_add(self.backoff.fail()) };
        if self.connection.is_some() {
            self.fail_in_flight(self.connection, cause, out);
        }
        self.fail_queue(cause, out);
    }

    /// Whether there was a connection for some time. One that goes as soon as it is made is to be redialled with backoff.
    fn has_lasted(&self, now: Instant) -> bool {
        matches!(self.state, State::Up { since } if now.saturating_since(since) >= self.config.connect_timeout)
    }
}
