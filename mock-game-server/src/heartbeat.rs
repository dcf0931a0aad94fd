//! Tells the Fleet now and then that this server is alive: a time in the metadata that stops moving when the server
//! does. It is written alone and beside everything else, so that it neither waits for a match nor repeats a state that
//! a matchmaker has meanwhile written over.

use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{fleet::Instance, lifecycle::Metadata};

/// Writes `heartbeat_at` at once and then every `period`, until told to stop.
pub(crate) async fn run(instance: &Instance, period: Option<Duration>, stop: CancellationToken) {
    let Some(period) = period else { return };
    stop.run_until_cancelled(beat(instance, period)).await;
}

async fn beat(instance: &Instance, period: Duration) {
    let mut ticks = interval(period);
    // A beat that was late says all that those it has missed would have said.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let update = Metadata::from_iter([("heartbeat_at".to_owned(), now.into())]);
        if let Err(error) = instance.merge(update, period).await {
            tracing::warn!(%error, "the heartbeat could not be written");
        }
    }
}
