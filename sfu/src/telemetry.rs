//! Reports for licensing: a small JSON object, posted every interval.
//!
//! Its members are the fields of `telemetry.data` by their names, and no others: text for who the licence is for, whole
//! numbers for limits and usage, `null` for what is not known. Any 2xx is a success.

use std::time::Duration;

use reqwest::{StatusCode, redirect::Policy};
use serde_json::{Map, Value};
use tokio::time::MissedTickBehavior;

use crate::{
    config::{self, TelemetryField},
    load::Usage,
};

/// Longest time for one report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the licence says; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LicenseFacts {
    /// The moment it ends, as it is written there.
    pub valid_until: Option<String>,
    /// Whom it is for.
    pub licensee: Option<String>,
    /// Its number.
    pub serial_number: Option<String>,
    /// Who gave it.
    pub issuer: Option<String>,
    /// Most clients.
    pub client_limit: Option<u64>,
    /// Most peers.
    pub peer_limit: Option<u64>,
    /// Most rooms.
    pub room_limit: Option<u64>,
}

/// Why no more reports go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// As asked.
    Stopped,
    /// Too many reports in a row failed: the server must end.
    Failing {
        /// How many.
        failures: u32,
    },
}

#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("the telemetry server cannot be reached")]
    Transport(#[source] reqwest::Error),
    #[error("the telemetry server answers {0}")]
    Status(StatusCode),
}

/// Who reports, and where to.
#[derive(Debug)]
pub(crate) struct Telemetry {
    config: config::Telemetry,
    license: LicenseFacts,
    http: reqwest::Client,
}

impl Telemetry {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// When TLS or the resolver cannot be set up.
    pub(crate) fn new(
        config: config::Telemetry,
        license: LicenseFacts,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(REPORT_TIMEOUT)
            .redirect(Policy::none())
            .build()?;
        Ok(Self {
            config,
            license,
            http,
        })
    }

    /// Reports at once and then every interval, until `stop` or until too many reports in a row have failed.
    pub(crate) async fn run(
        self,
        usage: impl Fn() -> Usage + Send + Sync,
        stop: impl Future<Output = ()> + Send,
    ) -> Ended {
        tokio::select! {
            ended = self.report_on(&usage) => ended,
            () = stop => Ended::Stopped,
        }
    }

    async fn report_on(&self, usage: &(impl Fn() -> Usage + Send + Sync)) -> Ended {
        let mut times = tokio::time::interval(self.config.interval);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0_u32;
        loop {
            times.tick().await;
            match self.report(usage()).await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(failures, "telemetry goes through again");
                    }
                    failures = 0;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let error = anyhow::Error::from(error);
                    let most = self.config.max_consecutive_failures;
                    if most.is_some_and(|most| failures >= most) {
                        tracing::error!(failures, "telemetry is lost: {error:#}");
                        return Ended::Failing { failures };
                    }
                    if failures == 1 {
                        tracing::warn!("telemetry does not go through: {error:#}");
                    }
                }
            }
        }
    }

    async fn report(&self, usage: Usage) -> Result<(), ReportError> {
        let body = report(&self.config.data, &self.license, usage);
        let request = self.http.post(&self.config.address).json(&body);
        let sent = request.send().await;
        // The URL may be a secret in itself.
        let answer = sent.map_err(|error| ReportError::Transport(error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(ReportError::Status(status)),
        }
    }
}

/// What is posted.
fn report(fields: &[TelemetryField], license: &LicenseFacts, usage: Usage) -> Map<String, Value> {
    let member = |field: &TelemetryField| {
        let (name, value) = member(*field, license, usage);
        (name.to_owned(), value)
    };
    fields.iter().map(member).collect()
}

fn member(field: TelemetryField, license: &LicenseFacts, usage: Usage) -> (&'static str, Value) {
    match field {
        TelemetryField::LicenseValidUntil => {
            ("LicenseValidUntil", license.valid_until.clone().into())
        }
        TelemetryField::LicenseLicensee => ("LicenseLicensee", license.licensee.clone().into()),
        TelemetryField::LicenseSerialNumber => {
            ("LicenseSerialNumber", license.serial_number.clone().into())
        }
        TelemetryField::LicenseIssuer => ("LicenseIssuer", license.issuer.clone().into()),
        TelemetryField::LicenseClientLimit => ("LicenseClientLimit", license.client_limit.into()),
        TelemetryField::LicenseClientUsage => ("LicenseClientUsage", usage.clients.into()),
        TelemetryField::LicensePeerLimit => ("LicensePeerLimit", license.peer_limit.into()),
        TelemetryField::LicensePeerUsage => ("LicensePeerUsage", usage.peers.into()),
        TelemetryField::LicenseRoomLimit => ("LicenseRoomLimit", license.room_limit.into()),
        TelemetryField::LicenseRoomUsage => ("LicenseRoomUsage", usage.rooms.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Json, Router, http::StatusCode as Status, routing::post};
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;

    fn config(address: String, most: Option<u32>, data: Vec<TelemetryField>) -> config::Telemetry {
        config::Telemetry {
            address,
            interval: Duration::from_millis(10),
            max_consecutive_failures: most,
            data,
        }
    }

    fn usage() -> Usage {
        Usage {
            clients: 3,
            peers: 4,
            rooms: 2,
        }
    }

    /// Answers with these statuses over and over, and hands on what is posted.
    async fn server(statuses: &'static [u16]) -> (String, mpsc::Receiver<Value>) {
        let (sender, posted) = mpsc::channel(1);
        let next = Arc::new(AtomicUsize::new(0));
        let answer = async move |Json(body): Json<Value>| {
            let _ = sender.send(body).await;
            let at = next.fetch_add(1, Ordering::Relaxed) % statuses.len();
            Status::from_u16(statuses[at]).unwrap()
        };
        let router = Router::new().route("/report", post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (format!("http://{address}/report"), posted)
    }

    #[test]
    fn a_report_has_exactly_the_fields_that_were_asked_for() {
        let license = LicenseFacts {
            valid_until: Some("1987-07-05T17:45:00Z".to_owned()),
            client_limit: Some(100),
            ..LicenseFacts::default()
        };
        let fields = [
            TelemetryField::LicenseValidUntil,
            TelemetryField::LicenseLicensee,
            TelemetryField::LicenseClientLimit,
            TelemetryField::LicenseClientUsage,
            TelemetryField::LicensePeerUsage,
            TelemetryField::LicenseRoomLimit,
            TelemetryField::LicenseRoomUsage,
        ];
        let expected = json!({
            "LicenseValidUntil": "1987-07-05T17:45:00Z",
            "LicenseLicensee": null,
            "LicenseClientLimit": 100,
            "LicenseClientUsage": 3,
            "LicensePeerUsage": 4,
            "LicenseRoomLimit": null,
            "LicenseRoomUsage": 2,
        });
        let report = report(&fields, &license, usage());
        assert_eq!(Value::from(report), expected);
    }

    #[test]
    fn every_field_is_called_what_the_settings_call_it() {
        for field in [
            TelemetryField::LicenseValidUntil,
            TelemetryField::LicenseLicensee,
            TelemetryField::LicenseSerialNumber,
            TelemetryField::LicenseIssuer,
            TelemetryField::LicenseClientLimit,
            TelemetryField::LicenseClientUsage,
            TelemetryField::LicensePeerLimit,
            TelemetryField::LicensePeerUsage,
            TelemetryField::LicenseRoomLimit,
            TelemetryField::LicenseRoomUsage,
        ] {
            let (name, _) = member(field, &LicenseFacts::default(), usage());
            assert_eq!(name, format!("{field:?}"));
        }
    }

    #[tokio::test]
    async fn reports_come_every_interval_and_a_single_failure_is_forgiven() {
        let (address, mut posted) = server(&[500, 204]).await;
        let config = config(address, Some(2), vec![TelemetryField::LicenseRoomUsage]);
        let telemetry = Telemetry::new(config, LicenseFacts::default()).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(telemetry.run(usage, async {
            let _ = stopped.await;
        }));
        for _ in 0..6 {
            assert_eq!(posted.recv().await.unwrap(), json!({"LicenseRoomUsage": 2}));
        }
        assert!(!running.is_finished());
        drop(stop);
        assert_eq!(running.await.unwrap(), Ended::Stopped);
    }

    #[tokio::test]
    async fn too_many_failures_in_a_row_end_it() {
        let (address, mut posted) = server(&[503]).await;
        let config = config(address, Some(3), Vec::new());
        let telemetry = Telemetry::new(config, LicenseFacts::default()).unwrap();
        let running = tokio::spawn(telemetry.run(usage, std::future::pending()));
        for _ in 0..3 {
            assert_eq!(posted.recv().await.unwrap(), json!({}));
        }
        assert_eq!(running.await.unwrap(), Ended::Failing { failures: 3 });
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure_whose_error_does_not_tell_the_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/secret", listener.local_addr().unwrap());
        drop(listener);
        let config = config(address, Some(1), Vec::new());
        let telemetry = Telemetry::new(config, LicenseFacts::default()).unwrap();
        let error = anyhow::Error::from(telemetry.report(usage()).await.unwrap_err());
        assert!(
            !format!("{error:#} {error:?}").contains("secret"),
            "{error:?}"
        );
        let ended = telemetry.run(usage, std::future::pending()).await;
        assert_eq!(ended, Ended::Failing { failures: 1 });
    }
}
