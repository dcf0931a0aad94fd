//! A bar on the terminal while a run takes its time; nothing where nobody looks.

use std::{sync::atomic::Ordering, time::Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{engine::Progress, plan::Plan, run::Stage};

/// See the module.
pub(crate) struct Bar {
    bar: ProgressBar,
    began: std::cell::Cell<Option<Instant>>,
    peers: u32,
}

impl Bar {
    pub(crate) fn new(plan: &Plan) -> Self {
        // A milli-second is a step; the library shows nothing where there is no terminal.
        let time = ((plan.warm_up_s + plan.duration_s) * 1_000.0) as u64;
        let bar = ProgressBar::new(time);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            began: std::cell::Cell::new(None),
            peers: plan.peer_count(),
        }
    }

    pub(crate) fn show(&self, stage: Stage, progress: &Progress) {
        if self.bar.is_hidden() {
            return;
        }
        let (present, peers) = (progress.present(), self.peers);
        let message = match stage {
            Stage::Before | Stage::Coming => format!("{present} of {peers} peers are in"),
            Stage::WarmingUp | Stage::Counting => {
                let now = Instant::now();
                let began = self.began.get().unwrap_or(now);
                self.began.set(Some(began));
                let elapsed = now.saturating_duration_since(began).as_millis();
                self.bar
                    .set_position(u64::try_from(elapsed).unwrap_or(u64::MAX));
                let sent = progress.sent.load(Ordering::Relaxed);
                let heard = progress.heard.load(Ordering::Relaxed);
                format!("{present} peers, {sent} packets said, {heard} heard")
            }
            Stage::Then => format!("{present} peers, few talk"),
            Stage::Leaving | Stage::After => "leaving".to_owned(),
        };
        self.bar.set_message(message);
    }

    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
    }
}
