//! How much voice may be under way to one receiver.
//!
//! Voice cannot be sent later and is small, and a lost packet mostly says that a radio link is bad: to halve the rate at every
//! loss, as for files, would silence people on such links without helping anybody. But a link that is full must not be
//! filled more: the window shrinks with each round trip that loses something, never below what a few talkers
//! need, and collapses only where nothing comes through.

use std::{any::Any, sync::Arc, time::Instant};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory},
};

/// Bytes under way at the beginning: fifty talkers in a round trip of 10 ms, ten in 50 ms.
const WINDOW_BEGIN: u64 = 64 * 1024;

/// Bytes under way that congestion does not take away: five talkers around the world (600 ms and 140 bytes a packet).
const WINDOW_MIN: u64 = 24 * 1024;

/// Most bytes under way.
const WINDOW_MAX: u64 = 1024 * 1024;

/// Packets under way where nothing comes through: RFC 9002, section 7.6.2.
const PACKETS_COLLAPSED: u64 = 2;

/// What is left of the window after a round trip with losses, in tenths.
const TENTHS_LEFT: u64 = 8;

/// Makes a [`VoiceWindow`] for each connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VoiceWindows;

impl ControllerFactory for VoiceWindows {
    fn build(self: Arc<Self>, _now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(VoiceWindow {
            window: WINDOW_BEGIN,
            mtu: current_mtu.into(),
            recovery_began: None,
        })
    }
}

/// See the module.
#[derive(Clone, Debug)]
struct VoiceWindow {
    window: u64,
    mtu: u64,
    /// Losses of what was sent before are part of the same congestion.
    recovery_began: Option<Instant>,
}

impl Controller for VoiceWindow {
    fn on_ack(
        &mut self,
        _now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        let is_before = self.recovery_began.is_some_and(|began| sent <= began);
        if is_before || (app_limited && self.window >= WINDOW_MIN) {
            return;
        }
        // One packet more for each window that is acknowledged.
        let more = (self.mtu * bytes).div_ceil(self.window.max(1));
        self.window = (self.window + more).min(WINDOW_MAX);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        _lost_bytes: u64,
    ) {
        if is_persistent_congestion {
            self.window = PACKETS_COLLAPSED * self.mtu;
            self.recovery_began = Some(now);
            return;
        }
        if self.recovery_began.is_some_and(|began| sent <= began) {
            return;
        }
        self.recovery_began = Some(now);
        let less = self.window * TENTHS_LEFT / 10;
        // A window that has collapsed grows by what is acknowledged alone.
        self.window = less.max(self.window.min(WINDOW_MIN));
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        WINDOW_BEGIN
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn window(now: Instant) -> Box<dyn Controller> {
        Arc::new(VoiceWindows).build(now, 1_200)
    }

    #[test]
    fn losses_of_one_round_trip_count_once_and_leave_enough_for_voice() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut controller = window(began);
        controller.on_congestion_event(at(50), at(10), false, 1_000);
        let once = controller.window();
        controller.on_congestion_event(at(51), at(20), false, 1_000);
        assert_eq!(
            controller.window(),
            once,
            "sent before the first was noticed"
        );
        for round in 1..100 {
            controller.on_congestion_event(at(round * 100), at(round * 100 - 1), false, 1_000);
        }
        assert_eq!(controller.window(), WINDOW_MIN);
    }

    #[test]
    fn where_nothing_comes_through_little_is_sent() {
        let began = Instant::now();
        let mut controller = window(began);
        controller.on_congestion_event(began, began, true, 10_000);
        assert_eq!(controller.window(), 2_400);
        controller.on_congestion_event(
            began + Duration::from_secs(1),
            began + Duration::from_millis(999),
            false,
            1,
        );
        assert_eq!(controller.window(), 2_400, "that was no promise of more");
    }
}
