//! The gateway above this server: it completes the settings, hears how the server does, and hands down moderation.
//!
//! A report waits at the gateway for tasks, so that a kick arrives in milliseconds; towards a gateway that holds no
//! answer back, reports go out every interval. Without a gateway the server goes on with what it has.

mod pace;
mod rpc;
mod secrets;
mod state;
mod tasks;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gateway_api::{Report, ReportedRoom, Task};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use toml::Table;

use crate::config;
use pace::{Failed, Pace};
pub use rpc::CallError;
use rpc::Rpc;
pub(crate) use state::SupervisorState;
use tasks::{Answer, Done, Received};

/// Longest time for the settings to come; a gateway has much to do when many servers start.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(15);

/// How much later than it may be held back an answer may come.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// Longest time for the last report: nobody waits for it.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest time for a task to be carried out. It only goes into rooms' queues: a room that takes longer stands still.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// First pause between two tries to get settings; it doubles ...
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Of so many tries for settings one is logged.
const TRIES_LOGGED: u32 = 10;

/// Why a gateway's settings cannot be had, or no gateway can be called. Tells no credentials.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// TLS or the resolver cannot be set up.
    #[error("calls of the gateway cannot be prepared")]
    Client(#[source] reqwest::Error),
    /// The server's own settings.
    #[error("the settings are not TOML")]
    OwnSettings,
    /// The gateway will not change its mind.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What came is of no use.
    #[error("the settings that the gateway sent are not TOML")]
    TheirSettings,
}

/// How the server does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    /// How busy it is, 0 to 1.
    pub load: f64,
    /// Connected clients.
    pub clients: u64,
    /// Rooms that exist.
    pub rooms: Vec<ReportedRoom>,
    /// Whether it is about to end and wants nobody to come.
    pub is_draining: bool,
}

/// A task for the server's rooms. The next one comes when `done` was sent or dropped.
#[derive(Debug)]
pub(crate) struct Order {
    /// What to do.
    pub task: Task,
    /// To be used once it has happened.
    pub done: oneshot::Sender<()>,
}

/// Why no more reports go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// As asked, or because nobody takes orders any more.
    Stopped,
    /// No answer came for as long as `shutdown_after` allows.
    Lost {
        /// Since the last answer.
        silent: Duration,
    },
}

/// The way to the gateway above this server.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    rpc: Rpc,
    public_endpoint: Option<String>,
    version: String,
    interval: Duration,
    no_warmup: bool,
    shutdown_after: Option<Duration>,
    state: Arc<SupervisorState>,
}

/// The params of `sfu.GridConfig`.
#[derive(Serialize)]
struct SettingsParams<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    public_endpoint: Option<&'a str>,
    version: &'a str,
    config: &'a str,
}

/// The result of `sfu.GridConfig`.
#[derive(Deserialize)]
struct Settings {
    config: String,
}

impl Supervisor {
    /// Opens nothing yet. `public_endpoint` is the server's identity; without it the gateway takes the address that
    /// calls come from.
    ///
    /// # Errors
    /// [`SupervisorError::Client`].
    pub(crate) fn new(
        config: config::Supervisor,
        public_endpoint: Option<String>,
    ) -> Result<Self, SupervisorError> {
        let rpc = Rpc::new(config.url, config.credentials).map_err(SupervisorError::Client)?;
        let version = match config.version {
            None => env!("CARGO_PKG_VERSION").to_owned(),
            // Reports have no place of its own for the operator's number.
            Some(number) => format!("{}+{number}", env!("CARGO_PKG_VERSION")),
        };
        Ok(Self {
            rpc,
            public_endpoint,
            version,
            interval: config.report_interval,
            no_warmup: config.no_warmup,
            shutdown_after: config.shutdown_after,
            state: Arc::default(),
        })
    }

    /// What metrics and readiness look at.
    pub(crate) fn state(&self) -> Arc<SupervisorState> {
        Arc::clone(&self.state)
    }

    /// The settings with what the gateway recommends and its key for this server. Secrets among the own settings do not
    /// leave the server. Tries until the gateway answers: whoever has waited long enough drops the future.
    ///
    /// # Errors
    /// [`SupervisorError`] when another try would end alike.
    pub(crate) async fn settings(&self, own_toml: &str) -> Result<String, SupervisorError> {
        let own: Table = toml::from_str(own_toml).map_err(|_| SupervisorError::OwnSettings)?;
        let sent = toml::to_string(&secrets::take_out(&own)).expect("what was read can be written");
        let params = SettingsParams {
            public_endpoint: self.public_endpoint.as_deref(),
            version: &self.version,
            config: &sent,
        };
        let mut tries = 0_u32;
        let settings: Settings = loop {
            let call = self.rpc.call("sfu.GridConfig", &params, SETTINGS_TIMEOUT);
            match call.await {
                Ok(settings) => break settings,
                Err(error) if error.is_final() => return Err(error.into()),
                Err(error) if tries.is_multiple_of(TRIES_LOGGED) => {
                    let error = anyhow::Error::from(error);
                    tracing::warn!(tries = tries + 1, "no settings yet: {error:#}");
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause(tries, fastrand::f64())).await;
            tries = tries.saturating_add(1);
        };
        let merged =
            toml::from_str(&settings.config).map_err(|_| SupervisorError::TheirSettings)?;
        let merged = secrets::put_back(&own, merged);
        Ok(toml::to_string(&merged).expect("what was read can be written"))
    }

    /// Reports and hands out orders, until `stop` or until the gateway has been away for too long. Orders are carried
    /// out one after the other, in the gateway's order, and none twice.
    pub(crate) async fn run(
        self,
        status: impl Fn() -> Status + Send + Sync + 'static,
        orders: mpsc::Sender<Order>,
        stop: impl Future<Output = ()> + Send,
    ) -> Ended {
        tokio::select! {
            ended = self.report_on(&status, &orders) => ended,
            () = stop => Ended::Stopped,
        }
    }

    async fn report_on(
        &self,
        status: &(impl Fn() -> Status + Send + Sync),
        orders: &mpsc::Sender<Order>,
    ) -> Ended {
        if !self.no_warmup {
            tokio::time::sleep(self.interval).await;
        }
        let mut pace = Pace::new(self.interval, self.shutdown_after, now());
        let mut done = Done::default();
        loop {
            let sent = now();
            let deadline = pace.deadline();
            let most = deadline.map(|deadline| deadline.saturating_duration_since(sent));
            let timeout = self.interval + ANSWER_GRACE;
            let timeout = most.map_or(timeout, |most| timeout.min(most));
            let next = match self.report(status(), Some(self.interval), timeout).await {
                Ok(answer) => {
                    self.state.answer_came(now());
                    let before = self.state.acknowledged();
                    let Some(carried_out) = self.carry_out(answer, &mut done, orders).await else {
                        return Ended::Stopped;
                    };
                    let is_news = carried_out > 0 || self.state.acknowledged() != before;
                    let (next, is_back) = pace.answered(sent, now(), is_news);
                    if is_back {
                        tracing::info!("the gateway is back");
                    }
                    next
                }
                Err(error) => {
                    self.state.report_failed();
                    let error = anyhow::Error::from(error);
                    match pace.failed(sent, now()) {
                        Failed::GiveUp { silent } => {
                            tracing::error!(?silent, "the gateway is lost: {error:#}");
                            return Ended::Lost { silent };
                        }
                        Failed::Again { at, is_first } => {
                            if is_first {
                                tracing::warn!("the gateway is away, rooms go on: {error:#}");
                            }
                            at
                        }
                    }
                }
            };
            tokio::time::sleep_until(next.into()).await;
        }
    }

    async fn report(
        &self,
        status: Status,
        wait: Option<Duration>,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let report = Report {
            public_endpoint: self.public_endpoint.clone(),
            server: None,
            version: self.version.clone(),
            load: status.load,
            clients: status.clients,
            rooms: status.rooms,
            acknowledged: Some(self.state.acknowledged()),
            wait_ms: wait.map(millis),
            draining: status.is_draining.then_some(true),
        };
        self.rpc.call("sfu.Report", &report, timeout).await
    }

    /// Has tasks carried out; gives how many were, or `None` when nobody takes orders any more.
    async fn carry_out(
        &self,
        answer: Answer,
        done: &mut Done,
        orders: &mpsc::Sender<Order>,
    ) -> Option<u64> {
        let mut carried_out = 0;
        for received in answer.tasks {
            let (name, task_id) = (received.name(), received.task_id());
            let is_done = task_id.is_some_and(|task_id| done.contains(task_id));
            if !is_done {
                if let Received::Unknown { name, .. } = &received {
                    tracing::warn!(task = ?name, "this server cannot do what the gateway asks for");
                }
                if let Some(task) = Option::<Task>::from(received) {
                    order(task, orders).await?;
                }
                self.state.task_done(name);
                carried_out += 1;
            }
            if let Some(task_id) = task_id {
                done.remember(task_id);
                // Also of one that was done before: the gateway sends it again until it hears this.
                self.state.acknowledge(task_id);
            }
        }
        Some(carried_out)
    }

    /// Tells the gateway that the server is about to end, so that nobody is sent to it any more. Whether it hears is not
    /// waited for longer than a second. Reports that still go out must say `is_draining`: one that does not undoes it.
    pub(crate) async fn farewell(&self, status: &Status) {
        let status = Status {
            is_draining: true,
            ..status.clone()
        };
        // What it asks for now comes too late, and comes again until it is acknowledged.
        if let Err(error) = self.report(status, None, FAREWELL_TIMEOUT).await {
            let error = anyhow::Error::from(error);
            tracing::warn!("the gateway does not know that this server ends: {error:#}");
        }
    }
}

/// Has one task carried out; `None` when nobody takes orders any more.
async fn order(task: Task, orders: &mpsc::Sender<Order>) -> Option<()> {
    let name = task.name();
    let (done, is_done) = oneshot::channel();
    let carried_out = async {
        orders.send(Order { task, done }).await.ok()?;
        Some(is_done.await.is_ok())
    };
    match tokio::time::timeout(ORDER_TIMEOUT, carried_out).await {
        Ok(None) => return None,
        Ok(Some(true)) => {}
        // Not again: what hinders one task would hinder all that come after it.
        Ok(Some(false)) | Err(_) => tracing::error!(task = name, "a task was not carried out"),
    }
    Some(())
}

/// The clock that tests can hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Between two tries to get settings. `random` (0 to 1) keeps servers that start together from calling together.
fn pause(tries: u32, random: f64) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(tries));
    doubled.min(PAUSE_MAX).mul_f64(0.5 + random / 2.0)
}
