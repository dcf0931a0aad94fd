//! Whether a shard is busy enough for packets to wait for each other.

use std::time::{Duration, Instant};

/// The time over which work is weighed.
const WINDOW: Duration = Duration::from_millis(50);

/// Percent of its time from which a shard is busy.
const HIGH_PERCENT: u128 = 25;

/// Percent below which it is no more. Packets that go together cost less than half, so this is far below the other, or
/// a shard between the two would change its mind all the time.
const LOW_PERCENT: u128 = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    began: Option<Instant>,
    work: Duration,
    is_high: bool,
}

impl Pressure {
    /// The shard was at work from then till then.
    pub(super) fn worked(&mut self, from: Instant, till: Instant) {
        let began = *self.began.get_or_insert(from);
        self.work += till.saturating_duration_since(from);
        let window = till.saturating_duration_since(began);
        if window < WINDOW {
            return;
        }
        let percent = self.work.as_micros() * 100 / window.as_micros().max(1);
        self.is_high = match self.is_high {
            true => percent >= LOW_PERCENT,
            false => percent >= HIGH_PERCENT,
        };
        self.began = Some(till);
        self.work = Duration::ZERO;
    }

    pub(super) fn is_high(&self) -> bool {
        self.is_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many percent of work in rounds of a millisecond, for a while.
    fn work(pressure: &mut Pressure, now: &mut Instant, percent: u64) -> bool {
        for _ in 0..200 {
            pressure.worked(*now, *now + Duration::from_micros(10 * percent));
            *now += Duration::from_millis(1);
        }
        pressure.is_high()
    }

    #[test]
    fn it_rises_with_work_and_stays_until_there_is_little() {
        let (mut pressure, mut now) = (Pressure::default(), Instant::now());
        let steps = [1, 20, 30, 20, 10, 5, 10, 20, 26, 100, 0];
        let high = steps.map(|percent| work(&mut pressure, &mut now, percent));
        assert_eq!(
            high,
            [
                false, false, true, true, true, false, false, false, true, true, false
            ]
        );
    }

    #[test]
    fn one_long_round_is_weighed_by_itself() {
        let (mut pressure, now) = (Pressure::default(), Instant::now());
        pressure.worked(now, now + Duration::from_secs(1));
        assert!(pressure.is_high());
    }
}
