//! When to report next, and when to give up. Pure: takes times, waits for nothing.

use std::time::{Duration, Instant};

/// An empty answer that took at least this long was held back by the gateway; one that came sooner comes from a gateway
/// that holds nothing back (of half an interval, if that is shorter). More than any gateway takes to think.
const HELD_BACK_MIN: Duration = Duration::from_secs(1);

/// Pause after the first failure. A connection that was cut is often taken up at once by the next gateway.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The times of one server's reports.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    shutdown_after: Option<Duration>,
    /// The last answer, or the start.
    answered: Instant,
    failures: u64,
}

/// What to do after a report that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Report again then; whether the gateway was there until now.
    Again { at: Instant, is_first: bool },
    /// Give up, after so long without an answer.
    GiveUp { silent: Duration },
}

impl Pace {
    pub(super) fn new(interval: Duration, shutdown_after: Option<Duration>, now: Instant) -> Self {
        Self {
            interval,
            shutdown_after,
            answered: now,
            failures: 0,
        }
    }

    /// An answer came to the report of `sent`; `is_news` when something was done about it, which the gateway should
    /// hear of. Gives the time of the next report, and whether the gateway is back.
    pub(super) fn answered(
        &mut self,
        sent: Instant,
        now: Instant,
        is_news: bool,
    ) -> (Instant, bool) {
        let is_back = self.failures > 0;
        self.failures = 0;
        self.answered = now;
        let held_back_min = HELD_BACK_MIN.min(self.interval / 2);
        let was_held_back = now.saturating_duration_since(sent) >= held_back_min;
        match is_news || was_held_back {
            true => (now, is_back),
            false => (sent + self.interval, is_back),
        }
    }

    /// The report of `sent` got no answer that can be used.
    pub(super) fn failed(&mut self, sent: Instant, now: Instant) -> Failed {
        let silent = now.saturating_duration_since(self.answered);
        if self.shutdown_after.is_some_and(|most| silent >= most) {
            return Failed::GiveUp { silent };
        }
        self.failures += 1;
        let is_first = self.failures == 1;
        let at = match is_first {
            true => now + FIRST_PAUSE.min(self.interval),
            false => now.max(sent + self.interval),
        };
        let at = self.deadline().map_or(at, |deadline| at.min(deadline));
        Failed::Again { at, is_first }
    }

    /// When to give up, if no answer comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.shutdown_after.map(|most| self.answered + most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_gateway_that_holds_answers_back_always_has_a_report() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL, None, start);
        for held in [1_000, 5_000] {
            let now = after(start, held);
            assert_eq!(pace.answered(start, now, false), (now, false));
        }
    }

    #[test]
    fn a_gateway_that_answers_at_once_gets_a_report_every_interval() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL, None, start);
        let next = pace.answered(start, after(start, 300), false);
        assert_eq!(next, (start + INTERVAL, false));
    }

    #[test]
    fn what_was_done_is_told_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL, None, start);
        let now = after(start, 3);
        assert_eq!(pace.answered(start, now, true), (now, false));
    }

    #[test]
    fn short_intervals_count_as_held_back_from_their_half() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_millis(100), None, start);
        let (soon, late) = (after(start, 49), after(start, 50));
        assert_eq!(pace.answered(start, soon, false).0, after(start, 100));
        assert_eq!(pace.answered(start, late, false).0, late);
    }

    #[test]
    fn a_gateway_that_is_away_is_asked_soon_and_then_every_interval() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL, None, start);
        let again = |at: u64, is_first| Failed::Again {
            at: after(start, at),
            is_first,
        };
        assert_eq!(pace.failed(start, after(start, 1)), again(251, true));
        let sent = after(start, 251);
        assert_eq!(pace.failed(sent, after(start, 252)), again(5_251, false));
        // One that took longer than an interval is followed by the next at once.
        let (sent, now) = (after(start, 5_251), after(start, 15_251));
        assert_eq!(pace.failed(sent, now), again(15_251, false));
        let back = after(start, 15_300);
        assert_eq!(pace.answered(back, back, true), (back, true));
        assert_eq!(pace.failed(back, back), again(15_550, true));
    }

    #[test]
    fn a_server_that_may_not_run_alone_gives_up_in_time() {
        let start = Instant::now();
        let mut pace = Pace::new(INTERVAL, Some(Duration::from_secs(7)), start);
        let answered = after(start, 1_000);
        pace.answered(answered, answered, true);
        let deadline = after(start, 8_000);
        assert_eq!(pace.deadline(), Some(deadline));
        pace.failed(after(start, 4_000), after(start, 4_000));
        let sent = after(start, 4_250);
        let again = pace.failed(sent, sent);
        let is_first = false;
        // Not at 9.25 s.
        assert_eq!(
            again,
            Failed::Again {
                at: deadline,
                is_first
            }
        );
        let silent = Duration::from_secs(7);
        assert_eq!(pace.failed(deadline, deadline), Failed::GiveUp { silent });
    }
}
