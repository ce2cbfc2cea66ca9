//! Lines between the nodes, and from each to etcd: what they delay, hold up and lose. One line for each direction.
//!
//! Over a stream transport nothing is lost that is not heard of: a lost packet is sent again, a line that is cut holds what is sent until it is whole,
//! or until somebody gives the connection up. With datagrams what is lost is lost, and may come twice, and in any order.

use super::clock::{MS, Time};
use super::plan::Weather;
use super::random::Random;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives after so long, and perhaps once more.
    Arrives(Time, Option<Time>),
    /// The line holds it until it is whole.
    Held,
    Lost,
}

/// All lines.
#[derive(Debug)]
pub(super) struct Network<M> {
    ends: usize,
    lines: Vec<Line<M>>,
    pub(super) weather: Weather,
}

#[derive(Debug)]
struct Line<M> {
    is_cut: bool,
    clogs: u32,
    held: Vec<M>,
}

impl<M> Network<M> {
    pub(super) fn new(ends: usize, weather: Weather) -> Self {
        let line = || Line { is_cut: false, clogs: 0, held: Vec::new() };
        Self { ends, lines: (0..ends * ends).map(|_| line()).collect(), weather }
    }

    const fn line(&self, from: usize, to: usize) -> usize {
        from * self.ends + to
    }

    /// What becomes of a message that is sent now.
    pub(super) fn fate(&self, from: usize, to: usize, random: &mut Random) -> Fate {
        let line = &self.lines[self.line(from, to)];
        let weather = self.weather;
        if line.clogs > 0 || (line.is_cut && !weather.datagrams) {
            return Fate::Held;
        }
        if line.is_cut || (weather.datagrams && random.happens(weather.loss)) {
            return Fate::Lost;
        }
        let delay = |random: &mut Random| weather.delay.0 + random.exponential(weather.delay.1);
        let mut time = delay(random);
        if !weather.datagrams {
            // Sent again after a while, and after twice as long.
            let mut again = 200 * MS;
            while random.happens(weather.loss) && again < 10_000 * MS {
                time += again;
                again *= 2;
            }
            return Fate::Arrives(time, None);
        }
        let twice = random.happens(weather.doubled).then(|| delay(random) * 3);
        Fate::Arrives(time, twice)
    }

    pub(super) fn hold(&mut self, from: usize, to: usize, message: M) {
        let line = self.line(from, to);
        self.lines[line].held.push(message);
    }

    /// Cuts a line.
    pub(super) fn cut(&mut self, from: usize, to: usize) {
        let line = self.line(from, to);
        self.lines[line].is_cut = true;
    }

    /// Makes all lines whole. Answers what they held and can deliver now.
    pub(super) fn heal(&mut self) -> Vec<M> {
        let mut released = Vec::new();
        for line in &mut self.lines {
            line.is_cut = false;
            if line.clogs == 0 {
                released.append(&mut line.held);
            }
        }
        released
    }

    pub(super) fn clog(&mut self, from: usize, to: usize) {
        let line = self.line(from, to);
        self.lines[line].clogs += 1;
    }

    /// Ends a clog. Answers what the line held and can deliver now.
    pub(super) fn unclog(&mut self, from: usize, to: usize) -> Vec<M> {
        let line = self.line(from, to);
        let line = &mut self.lines[line];
        line.clogs = line.clogs.saturating_sub(1);
        if line.clogs == 0 && !line.is_cut { std::mem::take(&mut line.held) } else { Vec::new() }
    }

    /// Ends all clogs of a line.
    pub(super) fn unclog_all(&mut self, from: usize, to: usize) -> Vec<M> {
        let line = self.line(from, to);
        self.lines[line].clogs = 0;
        self.unclog(from, to)
    }
}
