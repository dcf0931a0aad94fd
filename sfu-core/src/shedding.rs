//! What an overloaded shard gives up: how many streams a room may carry, from how late its voice is.
//!
//! A stream is one talker heard by one listener, and the cost of a shard is mostly their number. When voice is late, each
//! room gets a budget of streams, and the rooms that carry most are cut first: a small room beside a huge one keeps all of
//! its voice. What a room makes of its budget is its own matter, and it is few talkers heard whole rather than all of them
//! with holes.
//!
//! The budget goes down while voice is late. It goes up again by what the shard has time to spare for; without any, a little
//! more is tried, and ever more seldom if it was too much, so that under a steady load it nearly stands still. It ends when nothing was refused for ten seconds.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// Time over which a shard looks at itself: five packets of every talker.
const WINDOW: Duration = Duration::from_millis(100);

/// Mean wait of the voice of a window above which the shard is late. Receivers hold back about as much against jitter.
const LAG_MAX: Duration = Duration::from_millis(30);

/// Mean wait up to which a shard is calm. Between the two nothing changes.
const LAG_CALM: Duration = Duration::from_millis(15);

/// How long a shard must be late before it sheds: a burst, or a moment without the processor, is over by then.
const LATE_TIME: Duration = Duration::from_millis(300);

/// From one cut to the next, when the first one cut something: what waited before it has to pass first.
const SETTLE_TIME: Duration = Duration::from_millis(300);

/// How long a shard must be calm before it carries more.
const CALM_TIME: Duration = Duration::from_secs(1);

/// How long nothing must have been refused before there is no budget any more. A budget that refuses nothing does no
/// harm, and a crowd that falls silent for a moment is not to overload the shard anew at its next word.
const WHOLE_TIME: Duration = Duration::from_secs(10);

/// Percent of its time that a shard may be at work and still have time to spare.
const BUSY_CALM: u128 = 80;

/// Percent of its time at which a raised budget aims; the rest is for what it does not foresee.
const BUSY_GOAL: u128 = 90;

/// How long a shard without time to spare must be calm before a little more is tried: the more packets a round has, the
/// less each costs, so that time at work tells too little of what could be done. Doubled each time it was too much.
const TRIAL_TIME: Range<Duration> = Duration::from_secs(4)..Duration::from_secs(64);

/// A raised budget is at most so many times the one before: work does not grow in proportion everywhere.
const RAISE_MAX: u32 = 2;

/// Streams of a whole shard that it goes on carrying: a few percent of what it can do. When it is late all the same, it is
/// late for another reason, and silence would not help.
const STREAMS_MIN: u32 = 64;

/// Packets a second of a stream, in frames of 20 ms.
const STREAM_PACKETS: u128 = 50;

/// The shedding of one shard. It is told what the shard does, and says how many streams a room may carry.
#[derive(Debug)]
pub struct Shedding {
    budget: Option<u32>,
    /// When the budget changed last, and what it was before if it went up then.
    changed: Instant,
    raised_from: Option<u32>,
    /// How long it is calm before more is tried.
    trial_time: Duration,
    /// Since when it is late, since when it could carry more of what it refuses, and since when it refuses nothing.
    late_since: Option<Instant>,
    calm_since: Option<Instant>,
    whole_since: Option<Instant>,
    spare: Option<Spare>,
    window: Window,
}

/// What a shard has done since the window began.
#[derive(Debug)]
struct Window {
    began: Instant,
    packets: u32,
    waited: Duration,
    delivered: usize,
    refused: usize,
    worked: Duration,
}

/// A time in which the shard refuses voice and has time to spare.
#[derive(Clone, Copy, Debug)]
struct Spare {
    since: Instant,
    /// Percent of its time for which it was at work, in its busiest window.
    busy: u128,
}

/// The budget is another one now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetChange {
    /// Streams that a room might carry before; `None` is any number.
    pub before: Option<u32>,
    /// Streams that a room may carry.
    pub after: Option<u32>,
    /// How long voice had waited on average.
    pub lag: Duration,
}

impl Shedding {
    /// Without a budget.
    pub fn new(now: Instant) -> Self {
        Self {
            budget: None,
            changed: now,
            raised_from: None,
            trial_time: TRIAL_TIME.start,
            late_since: None,
            calm_since: None,
            whole_since: None,
            spare: None,
            window: Window::new(now),
        }
    }

    /// Streams that a room may carry; `None` is any number.
    pub fn budget(&self) -> Option<u32> {
        self.budget
    }

    /// A voice packet's turn came so long after it had arrived, whatever became of it then.
    pub fn waited(&mut self, lag: Duration) {
        self.window.packets = self.window.packets.saturating_add(1);
        self.window.waited = self.window.waited.saturating_add(lag);
    }

    /// A packet went to so many receivers, and the budget kept it from so many.
    pub fn forwarded(&mut self, delivered: usize, refused: usize) {
        self.window.delivered = self.window.delivered.saturating_add(delivered);
        self.window.refused = self.window.refused.saturating_add(refused);
    }

    /// The shard was at work for so long.
    pub fn worked(&mut self, time: Duration) {
        self.window.worked = self.window.worked.saturating_add(time);
    }

    /// To be called often: judges a window when it is over, and tells when the budget changes.
    pub fn turn(&mut self, now: Instant) -> Option<BudgetChange> {
        if now.saturating_duration_since(self.window.began) < WINDOW {
            return None;
        }
        let window = std::mem::replace(&mut self.window, Window::new(now));
        let lag = window.lag();
        self.note(now, &window);
        let after = match self.budget {
            _ if self.must_shed(now, &window) => Some(self.lowered(now, &window)),
            Some(_) if lasts(self.whole_since, now) >= WHOLE_TIME => None,
            Some(budget) => Some(self.raised(now, budget)),
            None => None,
        };
        let before = std::mem::replace(&mut self.budget, after);
        if before == after {
            return None;
        }
        let is_cut = after.is_some_and(|after| before.is_none_or(|before| after < before));
        if after.is_none() {
            self.trial_time = TRIAL_TIME.start;
        } else if is_cut && self.raised_from.is_some() {
            self.trial_time = (self.trial_time * 2).min(TRIAL_TIME.end);
        }
        self.changed = now;
        self.raised_from = before.filter(|_| !is_cut);
        Some(BudgetChange { before, after, lag })
    }

    fn note(&mut self, now: Instant, window: &Window) {
        let began = window.began;
        let is_late = window.lag() > LAG_MAX;
        // Silence says nothing of what the shard could carry besides.
        let is_calm = window.refused > 0 && window.lag() <= LAG_CALM;
        let is_whole = window.refused == 0 && !is_late;
        for (since, holds) in [
            (&mut self.late_since, is_late),
            (&mut self.calm_since, is_calm),
            (&mut self.whole_since, is_whole),
        ] {
            *since = holds.then(|| since.unwrap_or(began));
        }
        let busy = window.busy(now);
        self.spare = (is_calm && busy <= BUSY_CALM).then(|| Spare {
            since: self.spare.map_or(began, |spare| spare.since),
            busy: self.spare.map_or(busy, |spare| spare.busy.max(busy)),
        });
    }

    fn must_shed(&self, now: Instant, window: &Window) -> bool {
        // A budget that refuses nothing yet is too large by far, and nothing has to settle.
        let settle = match window.refused {
            0 => Duration::ZERO,
            _ => SETTLE_TIME,
        };
        let would_help = self.budget.is_none() || window.streams(now) > STREAMS_MIN;
        would_help
            && lasts(self.late_since, now) >= LATE_TIME
            && now.saturating_duration_since(self.changed) >= settle
    }

    /// First what the shard has just managed, which is too much for a room of many and close for a single huge one.
    fn lowered(&self, now: Instant, window: &Window) -> u32 {
        let lowered = match (self.budget, self.raised_from) {
            (None, _) => window.streams(now).max(STREAMS_MIN),
            (Some(_), Some(before)) => before,
            (Some(budget), _) if window.refused == 0 => (budget / 2).min(window.streams(now)),
            (Some(budget), _) if window.lag() > LAG_MAX * 2 => budget / 2,
            (Some(budget), _) => budget - budget / 4,
        };
        lowered.max(1)
    }

    fn raised(&self, now: Instant, budget: u32) -> u32 {
        let since_change = now.saturating_duration_since(self.changed);
        if let Some(Spare { since, busy }) = self.spare
            && since_change.min(now.saturating_duration_since(since)) >= CALM_TIME
        {
            let raised = u128::from(budget) * BUSY_GOAL / busy.max(1);
            let most = budget.saturating_mul(RAISE_MAX);
            return u32::try_from(raised).map_or(most, |raised| raised.min(most));
        }
        match lasts(self.calm_since, now).min(since_change) >= self.trial_time {
            true => budget.saturating_add((budget / 8).max(1)),
            false => budget,
        }
    }
}

fn lasts(since: Option<Instant>, now: Instant) -> Duration {
    since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
}

impl Window {
    fn new(began: Instant) -> Self {
        Self {
            began,
            packets: 0,
            waited: Duration::ZERO,
            delivered: 0,
            refused: 0,
            worked: Duration::ZERO,
        }
    }

    fn length(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// Nobody waited where nobody spoke.
    fn lag(&self) -> Duration {
        self.waited / self.packets.max(1)
    }

    /// Percent of the time for which it was at work.
    fn busy(&self, now: Instant) -> u128 {
        self.worked.as_nanos() * 100 / self.length(now).as_nanos().max(1)
    }

    /// Streams that were carried, if each had all of its packets.
    fn streams(&self, now: Instant) -> u32 {
        let packets = self.delivered as u128 * 1_000_000_000;
        let streams = packets / (self.length(now).as_nanos().max(1) * STREAM_PACKETS);
        u32::try_from(streams).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod simulation;
