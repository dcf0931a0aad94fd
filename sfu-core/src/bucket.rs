//! Token buckets: how often something may happen.

use std::time::{Duration, Instant};

/// Lets `rate` things a second happen, and up to `capacity` at once after a pause.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// When the bucket would be full. One token is `interval` of time.
    full_at: Instant,
    interval: Duration,
    capacity: Duration,
}

impl TokenBucket {
    /// A full bucket. Both figures count as at least 1.
    pub fn new(now: Instant, rate: u32, capacity: u32) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self {
            full_at: now,
            interval,
            capacity: interval * capacity.max(1),
        }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.take_within(now, Duration::ZERO).is_some()
    }

    /// Takes a token that is there at `now` or at most `wait` later, and says how long to wait for it.
    pub fn take_within(&mut self, now: Instant, wait: Duration) -> Option<Duration> {
        let full_at = self.full_at.max(now) + self.interval;
        let late = full_at.duration_since(now).saturating_sub(self.capacity);
        if late > wait {
            return None;
        }
        self.full_at = full_at;
        Some(late)
    }
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It may go on after this time, and those behind it wait.
    After(Duration),
    /// Too many wait already: it is refused.
    Refused,
    /// Too many were refused without a pause: whoever sends them is to be disconnected.
    Disconnect,
}

/// Limits the commands of one peer: at the rate they pass, beyond it some wait their turn, then they are refused, and
/// whoever goes on regardless is disconnected.
#[derive(Clone, Debug)]
pub struct Gate {
    bucket: TokenBucket,
    wait_max: Duration,
    refusals: TokenBucket,
}

impl Gate {
    /// `overflow` commands may wait. Refusals have a bucket of their own: as many as could pass and wait twice over may
    /// come at once, and as many a second as pass in one. Whoever sends more than twice what is allowed, and does not
    /// stop, has used them up soon.
    pub fn new(now: Instant, rate: u32, capacity: u32, overflow: u32) -> Self {
        let bucket = TokenBucket::new(now, rate, capacity);
        let refusals = capacity.saturating_add(overflow).saturating_mul(2);
        Self {
            wait_max: bucket.interval * overflow,
            bucket,
            refusals: TokenBucket::new(now, rate, refusals),
        }
    }

    /// A command has come.
    pub fn pass(&mut self, now: Instant) -> Passage {
        if let Some(wait) = self.bucket.take_within(now, self.wait_max) {
            return Passage::After(wait);
        }
        match self.refusals.take(now) {
            true => Passage::Refused,
            false => Passage::Disconnect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::origin;

    #[test]
    fn a_bucket_holds_its_capacity_and_fills_at_its_rate() {
        let now = origin();
        let mut bucket = TokenBucket::new(now, 50, 100);
        assert_eq!((0..200).filter(|_| bucket.take(now)).count(), 100);
        let later = now + Duration::from_millis(100);
        assert_eq!((0..200).filter(|_| bucket.take(later)).count(), 5);
        let rested = now + Duration::from_secs(3600);
        assert_eq!((0..200).filter(|_| bucket.take(rested)).count(), 100);
    }

    #[test]
    fn commands_pass_then_wait_then_are_refused_then_end_the_connection() {
        let now = origin();
        let mut gate = Gate::new(now, 10, 50, 20);
        for _ in 0..50 {
            assert_eq!(gate.pass(now), Passage::After(Duration::ZERO));
        }
        for turn in 1..=20 {
            assert_eq!(
                gate.pass(now),
                Passage::After(Duration::from_millis(100 * turn))
            );
        }
        for _ in 0..140 {
            assert_eq!(gate.pass(now), Passage::Refused);
        }
        assert_eq!(gate.pass(now), Passage::Disconnect);
    }

    /// Commands every so often for an hour; whether the client is still connected then.
    fn survives(times: u32, every: Duration) -> bool {
        let mut now = origin();
        let mut gate = Gate::new(now, 10, 50, 20);
        let end = now + Duration::from_secs(3600);
        while now < end {
            for _ in 0..times {
                if gate.pass(now) == Passage::Disconnect {
                    return false;
                }
            }
            now += every;
        }
        true
    }

    #[test]
    fn only_whoever_goes_on_is_disconnected() {
        assert!(
            survives(200, Duration::from_secs(30)),
            "too much, then a pause"
        );
        assert!(survives(1, Duration::from_millis(60)), "somewhat too fast");
        assert!(
            !survives(1, Duration::from_millis(10)),
            "at ten times the rate, without a pause"
        );
        assert!(!survives(100, Duration::from_secs(1)), "the same in bursts");
    }

    #[test]
    fn no_overflow_means_that_nothing_waits() {
        let now = origin();
        let mut gate = Gate::new(now, 1, 1, 0);
        assert_eq!(gate.pass(now), Passage::After(Duration::ZERO));
        assert_eq!(gate.pass(now), Passage::Refused);
    }
}
