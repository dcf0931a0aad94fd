//! The time of the store: the machine's own, or that of Redis once it is known.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use tokio::time::Instant;

use super::words::Timestamp;

/// A clock that never goes back.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// What Redis' clock showed, and when that was heard here.
    learned: Mutex<Option<(Timestamp, Instant)>>,
    latest_ms: AtomicU64,
}

impl Clock {
    /// The time of the store. Where it comes from Redis it is rather too early than too late: the answer was on its
    /// way.
    pub(super) fn now(&self) -> Timestamp {
        let learned = *self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match learned {
            Some((redis, heard)) => redis + heard.elapsed(),
            None => machine(),
        };
        let latest = self.latest_ms.fetch_max(now.0, Ordering::Relaxed);
        Timestamp(latest.max(now.0))
    }

    /// Redis has just answered with its time.
    pub(super) fn learn(&self, redis: Timestamp) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        *learned = Some((redis, Instant::now()));
    }
}

/// The machine's time. It moves with tokio's clock where that one is paused and advanced, and only there: what depends
/// on the store's time can then be tested without waiting.
pub(super) fn machine() -> Timestamp {
    let (tokio, std) = (Instant::now().into_std(), std::time::Instant::now());
    let machine = SystemTime::now();
    Timestamp::from(match tokio.checked_duration_since(std) {
        Some(ahead) => machine + ahead,
        None => machine - std.duration_since(tokio),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_follows_redis_ahead_and_never_goes_back() {
        let clock = Clock::default();
        let machine = clock.now();
        let hour = Duration::from_secs(3600);
        clock.learn(machine + hour);
        let ahead = clock.now();
        assert!(ahead >= machine + hour, "{ahead:?}");
        clock.learn(machine);
        assert_eq!(clock.now(), ahead);
        tokio::time::advance(hour + hour).await;
        assert!(clock.now() >= machine + hour + hour);
    }

    #[tokio::test(start_paused = true)]
    async fn it_moves_with_a_clock_that_a_test_advances() {
        let clock = Clock::default();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let passed = clock.now().since(before);
        assert!(passed >= Duration::from_secs(3599), "{passed:?}");
        assert!(passed <= Duration::from_secs(3700), "{passed:?}");
    }
}
