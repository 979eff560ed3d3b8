//! How long asking will take, from what was measured of it: by tokens, not by items, since answers end at any length.

use std::time::Instant;

use crate::event::Remaining;

/// What was measured so far, of all candidates together.
#[derive(Debug)]
pub struct Pace {
    prompts: Rate,
    answers: Rate,
    /// By suite: the answers that have ended, and their tokens.
    ended: Vec<(usize, usize)>,
    /// By suite: the most tokens of an answer.
    most: Vec<usize>,
    since: Instant,
}

/// Seconds that so many tokens took.
#[derive(Debug, Default, Clone, Copy)]
struct Rate {
    seconds: f64,
    tokens: usize,
}

impl Rate {
    fn add(&mut self, seconds: f64, tokens: usize) {
        self.seconds += seconds;
        self.tokens += tokens;
    }

    fn per_token(self) -> Option<f64> {
        (self.tokens > 0).then(|| self.seconds / self.tokens as f64)
    }
}

/// What is left to compute of one suite.
#[derive(Debug, Default, Clone, Copy)]
pub struct Left {
    /// Tokens of prompts, texts and options.
    pub positions: usize,
    /// Answers that have not ended, and the tokens that they have by now.
    pub answers: usize,
    pub begun: usize,
}

impl Pace {
    /// Nothing is known but the most tokens of an answer to each suite.
    pub fn new(most: Vec<usize>) -> Self {
        let (prompts, answers) = (Rate::default(), Rate::default());
        Self { prompts, answers, ended: vec![(0, 0); most.len()], most, since: Instant::now() }
    }

    /// The clock stood still: a model was loaded.
    pub fn resume(&mut self) {
        self.since = Instant::now();
    }

    /// An answer to a suite was there already; its length tells those of others.
    pub fn know(&mut self, suite: usize, n_tokens: usize) {
        let (n, tokens) = &mut self.ended[suite];
        (*n, *tokens) = (*n + 1, *tokens + n_tokens);
    }

    /// Notes what was computed since the last time.
    pub fn note(&mut self, positions: usize, new_tokens: usize) {
        let seconds = std::mem::replace(&mut self.since, Instant::now()).elapsed().as_secs_f64();
        self.took(seconds, positions, new_tokens);
    }

    fn took(&mut self, seconds: f64, positions: usize, new_tokens: usize) {
        // Prompts bring their first tokens with them.
        match positions {
            0 => self.answers.add(seconds, new_tokens),
            positions => self.prompts.add(seconds, positions),
        }
    }

    /// How long the rest of this candidate and of the run takes; none before an answer has ended.
    pub fn remaining(&self, now: &[Left], later: &[Vec<Left>]) -> Option<Remaining> {
        let here = self.seconds(now)?;
        let all = later.iter().map(|left| self.seconds(left)).sum::<Option<f64>>()?;
        Some(Remaining { stage_s: here, run_s: here + all })
    }

    fn seconds(&self, left: &[Left]) -> Option<f64> {
        left.iter().enumerate().map(|(nth, left)| self.of_suite(nth, *left)).sum()
    }

    fn of_suite(&self, nth: usize, left: Left) -> Option<f64> {
        let prompts = match left.positions {
            0 => 0.0,
            positions => self.prompts.per_token()? * positions as f64,
        };
        if left.answers == 0 {
            return Some(prompts);
        }
        // Nothing is known before something has ended anywhere.
        let known = self.ended.iter().any(|(n, _)| *n > 0);
        let per_token = self.answers.per_token().filter(|_| known)?;
        let length = match self.ended[nth] {
            (0, _) => self.most[nth] as f64 / 2.0,
            (n, tokens) => tokens as f64 / n as f64,
        };
        let expected = left.answers as f64 * length;
        // What runs longer than the mean is not over for that.
        let tokens = (expected - left.begun as f64).max(0.1 * expected);
        Some(prompts + per_token * tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(positions: usize, answers: usize, begun: usize) -> Left {
        Left { positions, answers, begun }
    }

    #[test]
    fn time_left_goes_by_tokens_and_is_silent_until_an_answer_has_ended() {
        let mut pace = Pace::new(vec![100, 40]);
        let now = [left(0, 8, 40), left(60, 4, 0)];
        pace.took(2.0, 200, 10);
        pace.took(5.0, 0, 50);
        assert_eq!(pace.remaining(&now, &[]), None, "nothing has ended");
        pace.know(0, 20);
        pace.know(0, 30);
        // 0.01 s a position, 0.1 s a token; eight answers of 25 tokens, of which 40 are there; four of half their most.
        let expected = 0.1 * (8.0 * 25.0 - 40.0) + 0.01 * 60.0 + 0.1 * 4.0 * 20.0;
        let found = pace.remaining(&now, &[vec![left(0, 0, 0), left(0, 2, 0)]]).unwrap();
        assert!((found.stage_s - expected).abs() < 1e-9, "{found:?}");
        assert!((found.run_s - found.stage_s - 0.1 * 2.0 * 20.0).abs() < 1e-9, "{found:?}");
        // What runs on beyond the mean still takes a while.
        let late = pace.remaining(&[left(0, 1, 90), left(0, 0, 0)], &[]).unwrap();
        assert!((late.stage_s - 0.1 * 2.5).abs() < 1e-9, "{late:?}");
        assert_eq!(pace.remaining(&[left(0, 0, 0); 2], &[]).unwrap().run_s, 0.0);
    }
}
