//! What is to be done when: times in order, and the kernel's timer for the first of them.

use std::{cmp::Reverse, collections::BinaryHeap, io, os::fd::BorrowedFd, time::Instant};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use std::os::fd::AsFd as _;

/// Things with a time, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Agenda(BinaryHeap<Reverse<(Instant, u32)>>);

impl Agenda {
    pub(super) fn add(&mut self, at: Instant, what: u32) {
        self.0.push(Reverse((at, what)));
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The earliest, if its time has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<(Instant, u32)> {
        match self.first() {
            Some(at) if at <= now => self.0.pop().map(|Reverse(it)| it),
            _ => None,
        }
    }
}

/// A timer of the kernel, finer than the milliseconds of `epoll_wait`.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: TimerFd,
    set_to: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        Ok(Self {
            timer,
            set_to: None,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Rings at this time. One that has rung is silent from here on.
    pub(crate) fn set(&mut self, now: Instant, at: Option<Instant>) -> io::Result<()> {
        if at == self.set_to && at.is_none_or(|at| at > now) {
            return Ok(());
        }
        self.set_to = at;
        match at {
            None => self.timer.unset()?,
            Some(at) => {
                // Zero would mean never.
                let wait = at
                    .saturating_duration_since(now)
                    .max(std::time::Duration::from_nanos(1));
                let expiration = Expiration::OneShot(TimeSpec::from(wait));
                self.timer.set(expiration, TimerSetTimeFlags::empty())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn things_come_in_the_order_of_their_times() {
        let now = Instant::now();
        let mut agenda = Agenda::default();
        for (ms, what) in [(3, 3), (1, 1), (2, 2)] {
            agenda.add(now + Duration::from_millis(ms), what);
        }
        assert_eq!(agenda.due(now), None);
        let later = now + Duration::from_millis(2);
        let due: Vec<_> = std::iter::from_fn(|| agenda.due(later))
            .map(|(_, it)| it)
            .collect();
        assert_eq!(due, [1, 2]);
        assert_eq!(agenda.first(), Some(now + Duration::from_millis(3)));
    }
}
