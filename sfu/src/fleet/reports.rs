//! How the server does, in the metadata of its service: `instance_state` says that it is a voice server, `voice_node`
//! how busy it is and whether it takes rooms. Whoever places voice near game servers reads it there.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use fleet_client::Error;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::{Fleet, FleetError, REQUEST_TIME_MAX};
use crate::{config::Config, metrics::Metrics};

/// First pause after a report that failed, unless the interval is shorter; it doubles ...
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// ... up to this, unless the interval is longer.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Longest pause that the Fleet may ask for: it then hears of a server at least so often.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(120);

/// Longest time for the last report: the server ends without it as well.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(2);

/// How the server does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Status {
    /// How busy it is, 0 to 1.
    pub load: f64,
    /// Rooms that exist.
    pub rooms: u64,
    /// Peers in them.
    pub peers: u64,
    /// Whether it is about to end and takes nobody.
    pub is_draining: bool,
}

/// The reports of one server.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    fleet: Fleet,
    service_id: i64,
    /// What the gateway knows the server by.
    address: String,
    interval: Duration,
    metrics: Arc<Metrics>,
}

impl Reports {
    /// Of a server with these settings; none when it does not run on the Fleet.
    ///
    /// # Errors
    /// [`FleetError`] when the settings were not settled, or no calls can be prepared.
    pub(crate) fn of(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Self>, FleetError> {
        let Some(fleet) = &config.fleet else {
            return Ok(None);
        };
        let (Some(place), Some(address)) = (fleet.place, &config.public_address) else {
            return Err(FleetError::NotSettled);
        };
        Ok(Some(Self {
            fleet: Fleet::new(fleet.clone())?,
            service_id: place.service_id,
            address: address.clone(),
            interval: fleet.report_interval,
            metrics: Arc::clone(metrics),
        }))
    }

    /// Reports every interval, and at once when there is news, for as long as it is polled.
    pub(crate) async fn run<T>(
        &self,
        status: impl Fn() -> Status + Send + Sync,
        mut news: watch::Receiver<T>,
    ) where
        T: Send + Sync,
    {
        let mut failures = 0;
        loop {
            let sent = tokio::select! {
                biased;
                // What is on its way is out of date.
                () = changes(&mut news) => continue,
                sent = self.send(status(), REQUEST_TIME_MAX) => sent,
            };
            let pause = match sent {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(failures, "the Fleet takes reports again");
                    }
                    failures = 0;
                    self.interval
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!("the Fleet takes no report, voice goes on: {error}");
                    }
                    let asked = asked(&error).min(ASKED_PAUSE_MAX);
                    pause(self.interval, failures, fastrand::f64()).max(asked)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = changes(&mut news) => {}
            }
        }
    }

    /// Says that the server ends. Whether the Fleet hears it is not waited for longer than two seconds.
    pub(crate) async fn farewell(&self, status: Status) {
        let status = Status {
            is_draining: true,
            ..status
        };
        if let Err(error) = self.send(status, FAREWELL_TIME_MAX).await {
            tracing::warn!("the Fleet does not know that this server ends: {error}");
        }
    }

    async fn send(&self, status: Status, time_max: Duration) -> Result<(), Error> {
        let metadata = metadata(&self.address, status, Utc::now());
        let sent = self.fleet.merge(self.service_id, metadata, time_max).await;
        self.metrics.fleet_report(sent.is_ok());
        sent
    }
}

/// Returns with the next change. When there will be none any more, never.
async fn changes<T>(news: &mut watch::Receiver<T>) {
    if news.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How long the Fleet asks to be left alone.
fn asked(error: &Error) -> Duration {
    match error {
        Error::RateLimited { retry_after, .. } | Error::Unavailable { retry_after, .. } => {
            retry_after.unwrap_or_default()
        }
        _ => Duration::ZERO,
    }
}

/// Until the next report after so many failures in a row. `random` (0 to 1) spreads servers that were cut off together.
fn pause(interval: Duration, failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1);
    let doubled = PAUSE_MIN
        .min(interval)
        .saturating_mul(2_u32.saturating_pow(doublings));
    let most = PAUSE_MAX.max(interval);
    doubled.min(most).mul_f64(0.5 + random / 2.0)
}

/// The keys that are merged into the service's metadata.
fn metadata(address: &str, status: Status, now: DateTime<Utc>) -> Map<String, Value> {
    // More digits are noise. What is no number counts as full.
    let load = match status.load.is_nan() {
        true => 1.0,
        false => (status.load.clamp(0.0, 1.0) * 1000.0).round() / 1000.0,
    };
    let node = json!({
        "address": address,
        "load": load,
        "rooms": status.rooms,
        "peers": status.peers,
        "draining": status.is_draining,
        "reported_at": now.to_rfc3339_opts(SecondsFormat::Millis, true),
    });
    let keys = [("instance_state", json!("voice")), ("voice_node", node)];
    keys.map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_say_what_others_place_voice_by() {
        let status = Status {
            load: 0.250_049,
            rooms: 3,
            peers: 12,
            is_draining: false,
        };
        let now = DateTime::from_timestamp(1_700_000_000, 7_000_000).unwrap();
        let node = json!({
            "address": "192.0.2.1:20001", "load": 0.25, "rooms": 3, "peers": 12, "draining": false,
            "reported_at": "2023-11-14T22:13:20.007Z",
        });
        let wanted = json!({"instance_state": "voice", "voice_node": node});
        assert_eq!(
            Value::Object(metadata("192.0.2.1:20001", status, now)),
            wanted
        );
        let odd = Status {
            load: f64::NAN,
            ..status
        };
        let shown = metadata("a:1", odd, now);
        assert_eq!(shown["voice_node"]["load"], json!(1.0), "what is no number");
    }

    #[test]
    fn a_fleet_that_is_away_is_asked_soon_and_then_less_often() {
        let ms = Duration::from_millis;
        let pauses = |interval| [1, 2, 3, 8, 9, u32::MAX].map(|it| pause(interval, it, 1.0));
        let usual = [250, 500, 1_000, 30_000, 30_000, 30_000].map(ms);
        assert_eq!(pauses(ms(5_000)), usual);
        let short = [100, 200, 400, 12_800, 25_600, 30_000].map(ms);
        assert_eq!(pauses(ms(100)), short);
        let long = [250, 500, 1_000, 32_000, 60_000, 60_000].map(ms);
        assert_eq!(pauses(ms(60_000)), long);
        assert_eq!(pause(ms(5_000), 1, 0.0), ms(125));
    }

    #[test]
    fn a_fleet_that_asks_for_rest_gets_it() {
        let limited = |retry_after| Error::RateLimited {
            message: String::new(),
            retry_after,
        };
        let minute = Duration::from_secs(60);
        assert_eq!(asked(&limited(Some(minute))), minute);
        assert_eq!(asked(&limited(None)), Duration::ZERO);
    }
}
