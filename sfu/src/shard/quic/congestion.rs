//! What a connection may have under way: [`VoiceWindow`], as quinn asks for it.

use std::{any::Any, sync::Arc, time::Instant};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory},
};

use crate::shard::window::{VoiceWindow, WINDOW_BEGIN};

/// Makes one for each connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VoiceWindows;

impl ControllerFactory for VoiceWindows {
    fn build(self: Arc<Self>, _now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(VoiceController {
            window: VoiceWindow::new(current_mtu),
            recovery_began: None,
        })
    }
}

#[derive(Clone, Debug)]
struct VoiceController {
    window: VoiceWindow,
    /// Losses of what was sent before are part of the same congestion.
    recovery_began: Option<Instant>,
}

impl Controller for VoiceController {
    fn on_ack(
        &mut self,
        _now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        if self.recovery_began.is_none_or(|began| sent > began) {
            self.window.acknowledged(bytes, !app_limited);
        }
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        _lost_bytes: u64,
    ) {
        if is_persistent_congestion {
            self.window.collapse();
        } else if self.recovery_began.is_none_or(|began| sent > began) {
            self.window.lost();
        } else {
            return;
        }
        self.recovery_began = Some(now);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.window.replace_mtu(new_mtu);
    }

    fn window(&self) -> u64 {
        self.window.bytes()
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
    use crate::shard::window::WINDOW_MIN;

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
