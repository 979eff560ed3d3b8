//! When to ask again.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// How often and how long to try.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Requests for one answer, the first counted.
    pub tries: u32,
    /// The wait behind the first failure; each further one doubles it.
    pub first_wait: Duration,
    /// No wait is longer: the doubling stops there, and an endpoint that asks for more is given up.
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // About two minutes in all, which outlasts a limit by the minute.
        Self { tries: 8, first_wait: Duration::from_secs(1), longest_wait: Duration::from_mins(1) }
    }
}

impl Patience {
    /// How long to wait behind failure number `nth`, from 0; none to give up.
    ///
    /// `asked` is what the endpoint asks for, `dice` from 0 to 1: those that failed together should not return together.
    pub fn wait(&self, nth: u32, asked: Option<Duration>, dice: f64) -> Option<Duration> {
        if nth + 1 >= self.tries || asked.is_some_and(|asked| asked > self.longest_wait) {
            return None;
        }
        let doubled = self.first_wait.saturating_mul(2_u32.saturating_pow(nth)).min(self.longest_wait);
        Some(match asked {
            Some(asked) => asked + self.first_wait.mul_f64(dice),
            None => doubled.mul_f64(0.5 + dice / 2.0),
        })
    }
}

/// A number from 0 to 1. It decides when to ask, never what, so it need not be the same in the next run.
pub(super) fn dice() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

/// What a `Retry-After` header asks for: seconds, or a day and time.
pub(super) fn retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let then = DateTime::parse_from_rfc2822(header.trim()).ok()?;
    Some((then.to_utc() - now).to_std().unwrap_or(Duration::ZERO))
}

/// Waits; returns whether it was left to the end.
pub(super) fn sleep(wait: Duration, stop: &AtomicBool) -> bool {
    let (start, step) = (Instant::now(), Duration::from_millis(50));
    while !stop.load(Ordering::Relaxed) {
        let left = wait.saturating_sub(start.elapsed());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(step));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_the_tries() {
        let patience = Patience { tries: 5, first_wait: SECOND, longest_wait: 5 * SECOND };
        let waits: Vec<_> = (0..5).map(|nth| patience.wait(nth, None, 1.0)).collect();
        assert_eq!(waits, [Some(SECOND), Some(2 * SECOND), Some(4 * SECOND), Some(5 * SECOND), None]);
        assert_eq!(patience.wait(0, None, 0.0), Some(SECOND / 2));
    }

    #[test]
    fn an_endpoint_is_waited_for_as_it_asks_unless_it_asks_for_too_much() {
        let patience = Patience { tries: 5, first_wait: SECOND, longest_wait: 5 * SECOND };
        assert_eq!(patience.wait(0, Some(3 * SECOND), 0.5), Some(3 * SECOND + SECOND / 2));
        assert_eq!(patience.wait(0, Some(6 * SECOND), 0.5), None);
    }

    #[test]
    fn a_wait_is_given_in_seconds_or_as_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-01-02T03:04:05Z").unwrap().to_utc();
        assert_eq!(retry_after("2", now), Some(2 * SECOND));
        assert_eq!(retry_after("Fri, 02 Jan 2026 03:04:15 GMT", now), Some(10 * SECOND));
        assert_eq!(retry_after("Fri, 02 Jan 2026 03:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-1", now), None);
    }

    #[test]
    fn dice_stay_between_their_ends() {
        assert!((0..100).map(|_| dice()).all(|dice| (0.0..=1.0).contains(&dice)));
    }
}
