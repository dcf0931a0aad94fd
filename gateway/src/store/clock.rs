//! The time of the grid: the machine's own, or that of Redis as far as it is known.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::SystemTime,
};

use crate::grid::Timestamp;

/// A clock that never goes back.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// What Redis' clock is ahead, in milliseconds, less the way of its last answer.
    offset_ms: AtomicI64,
    latest_ms: AtomicU64,
}

impl Clock {
    /// The time of the grid.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.redis();
        let latest = self.latest_ms.fetch_max(now.0, Ordering::Relaxed);
        Timestamp(latest.max(now.0))
    }

    /// What Redis' clock shows, which may go back. It is rather too early than too late.
    pub(super) fn redis(&self) -> Timestamp {
        let machine = Timestamp::from(SystemTime::now());
        let offset = self.offset_ms.load(Ordering::Relaxed);
        Timestamp(machine.0.saturating_add_signed(offset))
    }

    /// Redis has just answered with its time.
    pub(super) fn learn(&self, redis: Timestamp) {
        let machine = Timestamp::from(SystemTime::now());
        let offset = i128::from(redis.0) - i128::from(machine.0);
        let offset = i64::try_from(offset).unwrap_or_default();
        self.offset_ms.store(offset, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_follows_redis_ahead_and_never_goes_back() {
        let clock = Clock::default();
        let machine = clock.now();
        let hour = Duration::from_secs(3600);
        clock.learn(machine.after(hour));
        let ahead = clock.now();
        assert!(ahead >= machine.after(hour), "{ahead:?}");
        clock.learn(machine);
        assert!(clock.now() >= ahead);
        assert!(clock.redis() < ahead);
    }
}
