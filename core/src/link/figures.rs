//! What a link tells of itself, for people who look at a fleet.

use super::{Link, State};

/// How a link stands to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkState {
    /// Nothing has been asked yet, and nothing was dialled.
    Idle,
    /// Dialling, for the first time or at once after a loss. Fetches gather.
    Dialling,
    /// Connected and trusted.
    Up,
    /// Connected, after batches failed in a row: one goes out as a probe.
    Probing,
    /// The breaker is open, with or without a connection.
    Down,
    /// The breaker is open, and a redial is under way.
    Redialling,
    /// The peer left the ring. What is in flight is waited for.
    Leaving,
    /// The peer left the ring, and nothing is in flight.
    Closed,
}

impl LinkState {
    /// Every state, the better before the worse: where a gauge has their numbers, less is better.
    pub const ALL: [Self; 8] = [
        Self::Up,
        Self::Idle,
        Self::Dialling,
        Self::Probing,
        Self::Redialling,
        Self::Down,
        Self::Leaving,
        Self::Closed,
    ];

    /// A stable, short name: `up`, `down`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Dialling => "dialling",
            Self::Up => "up",
            Self::Probing => "probing",
            Self::Down => "down",
            Self::Redialling => "redialling",
            Self::Leaving => "leaving",
            Self::Closed => "closed",
        }
    }
}

impl Link {
    /// How the link stands to its peer.
    #[must_use]
    pub const fn state(&self) -> LinkState {
        match self.state {
            State::Idle => LinkState::Idle,
            State::Dialling { .. } => LinkState::Dialling,
            State::Up { .. } => LinkState::Up,
            State::Probing => LinkState::Probing,
            State::Down { .. } => LinkState::Down,
            State::Redialling { .. } => LinkState::Redialling,
            State::Leaving => LinkState::Leaving,
            State::Closed => LinkState::Closed,
        }
    }

    /// Keys that wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Batches that were sent and are not complete.
    #[must_use]
    pub fn open_batches(&self) -> usize {
        self.in_flight.len()
    }
}
