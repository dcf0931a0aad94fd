//! When the next attempt to come back is due. Pure: time and chance are arguments.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Reconnect;

/// What lasted for so long after a return was good: the next loss is a new one. Shorter, and a server that takes everybody
/// in and throws everybody out would be asked without a pause.
const GOOD_MIN: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    config: Reconnect,
    /// The first loss of a series.
    since: Option<Instant>,
    attempts: u32,
}

impl Pace {
    pub(super) fn new(config: Reconnect) -> Self {
        Self {
            config,
            since: None,
            attempts: 0,
        }
    }

    /// What lasted for so long was lost.
    pub(super) fn lost(&mut self, now: Instant, lasted: Duration) {
        if lasted >= GOOD_MIN || self.since.is_none() {
            (self.since, self.attempts) = (Some(now), 0);
        }
    }

    /// The wait before the next attempt; `None` when there is none any more. `chance` is from 0 to 1.
    pub(super) fn delay(&mut self, now: Instant, chance: f64) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let doubled = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        let longest = self.config.delay_min.saturating_mul(doubled);
        let longest = longest.min(self.config.delay_max);
        let delay = longest.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        self.attempts = self.attempts.saturating_add(1);
        let due = now.saturating_duration_since(since) + delay;
        (due <= self.config.time_max).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(Reconnect::default())
    }

    #[test]
    fn waits_double_up_to_their_limit_and_end() {
        let start = Instant::now();
        let (mut pace, mut now) = (pace(), start);
        pace.lost(now, Duration::from_secs(100));
        let mut delays = Vec::new();
        while let Some(delay) = pace.delay(now, 1.0) {
            now += delay;
            delays.push(delay.as_millis());
        }
        assert_eq!(
            delays.get(..8),
            Some(&[100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000][..])
        );
        assert!(now - start <= Duration::from_secs(60));
        assert_eq!(delays.len(), 16);
    }

    #[test]
    fn half_of_a_wait_is_chance() {
        let now = Instant::now();
        let delay = |chance| pace().delay(now, chance).unwrap().as_millis();
        assert_eq!([0.0, 0.5, 1.0, 7.0].map(delay), [50, 75, 100, 100]);
    }

    #[test]
    fn only_a_good_connection_begins_anew() {
        let start = Instant::now();
        let mut pace = pace();
        pace.lost(start, Duration::from_secs(100));
        pace.delay(start, 1.0);
        let later = start + Duration::from_secs(59);
        pace.lost(later, Duration::from_secs(1));
        assert_eq!(pace.delay(later, 1.0).unwrap().as_millis(), 200);
        let end = start + Duration::from_secs(60);
        assert_eq!(pace.delay(end, 1.0), None);
        pace.lost(end, Duration::from_secs(10));
        assert_eq!(pace.delay(end, 1.0).unwrap().as_millis(), 100);
    }
}
