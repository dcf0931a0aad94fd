//! The three clocks of a moment: ours, the one that packets carry, and the one that the kernel stamps arrivals with.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// A moment on all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    /// `CLOCK_MONOTONIC`: that of `sent_ns`. The same for all programs of this machine.
    pub(crate) monotonic_ns: u64,
    /// `CLOCK_REALTIME`.
    wall: Duration,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let read = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
        let monotonic = read(ClockId::CLOCK_MONOTONIC);
        Self {
            instant: Instant::now(),
            monotonic_ns: u64::try_from(monotonic.as_nanos()).unwrap_or(u64::MAX),
            wall: read(ClockId::CLOCK_REALTIME),
        }
    }

    /// How long ago the kernel stamped something.
    pub(crate) fn since(&self, stamp: Duration) -> Duration {
        self.wall.saturating_sub(stamp)
    }
}
