//! Contenders take turns, and a bar shows how far it is.

use indicatif::{ProgressBar, ProgressStyle};

use super::{Outcome, Samples};

/// A progress bar on stderr; nothing where that is no terminal.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar for so many steps of `subject`.
    ///
    /// # Panics
    /// Never: the template is a constant.
    #[must_use]
    pub fn new(subject: &str, steps: usize) -> Self {
        let template = "{spinner} {elapsed_precise} {prefix} {wide_bar} {pos}/{len} {msg}";
        let style = ProgressStyle::with_template(template).expect("a template");
        Self(ProgressBar::new(steps as u64).with_style(style).with_prefix(subject.to_owned()))
    }

    /// A step begins: what is measured now.
    pub fn begin(&self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.tick();
    }

    /// A step is done.
    pub fn done(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Measures every contender once a round, for so many rounds, and answers each one's samples in the order of `contenders`.
///
/// Each round begins with another contender, so that none is always the one behind the same other. Steps `progress` by `contenders x rounds`.
///
/// # Errors
/// The first of `measure`.
pub fn take_turns<C>(
    contenders: &mut [C],
    rounds: usize,
    progress: &Progress,
    name: impl Fn(&C) -> String,
    mut measure: impl FnMut(&mut C) -> Outcome<f64>,
) -> Outcome<Vec<Samples>> {
    let count = contenders.len();
    let mut samples = vec![Vec::with_capacity(rounds); count];
    for round in 0..rounds {
        for turn in 0..count {
            let who = (round + turn) % count;
            progress.begin(&name(&contenders[who]));
            samples[who].push(measure(&mut contenders[who])?);
            progress.done();
        }
    }
    Ok(samples.into_iter().map(Samples::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_contender_is_measured_once_a_round_and_goes_first_in_turn() {
        let (mut order, progress) = (Vec::new(), Progress::new("test", 6));
        let samples = take_turns(&mut [10, 20], 3, &progress, u32::to_string, |&mut contender| {
            order.push(contender);
            Ok(f64::from(contender) + order.len() as f64)
        });
        assert_eq!(order, [10, 20, 20, 10, 10, 20]);
        assert_eq!(
            samples.unwrap(),
            [Samples::new(vec![11.0, 14.0, 15.0]), Samples::new(vec![22.0, 23.0, 26.0])]
        );
    }
}
