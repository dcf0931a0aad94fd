//! What a server does beside serving, and how it ends.

use std::{
    future::Future,
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use service::SettingsError;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{QuicListener, Server, ServerError, Thread, Web, media::quic_tls};
use crate::{
    License,
    certificate::Certificate,
    config::{Config, Limit},
    control::{Control, Phase},
    fleet::{self, Place},
    load::{Sample, load},
    log::RunningLog,
    signalling,
    supervisor::{self, Order, Status, Supervisor},
    telemetry,
};

/// Orders of the gateway that may wait; they are carried out one after the other.
const ORDERS_MAX: usize = 64;

/// Between two looks at whether everybody has left by themselves.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// How long streams may take to end once everybody was sent away.
const GOODBYE_TIME: Duration = Duration::from_secs(2);

/// How long background work may take to end.
const DUTIES_END_TIME: Duration = Duration::from_secs(1);

/// Longest time between two looks at the machine.
const LOAD_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// Why a server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked.
    Asked,
    /// The gateway did not answer for as long as the settings allow.
    GatewayLost {
        /// Since its last answer.
        silent: Duration,
    },
    /// Telemetry failed as often as the settings allow.
    TelemetryFailing {
        /// In a row.
        failures: u32,
    },
    /// The licence has ended.
    LicenseEnded,
    /// A thread that forwards has ended, which it must not.
    ShardEnded,
}

/// What can be read again while the server runs.
pub(crate) struct Reload {
    pub(crate) config: PathBuf,
    pub(crate) log: RunningLog,
}

impl Server {
    /// Serves until `shutdown` or until it must end. Then nobody comes in any more, the gateway is told, and for up to
    /// `drain` those who are in may stay; `hurry` cuts that short. Who is left is told that the server closes.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
        hurry: impl Future<Output = ()> + Send + 'static,
        drain: Duration,
    ) -> Ended {
        self.run_with(shutdown, hurry, drain, None).await
    }

    /// As [`Self::run`]; SIGHUP reads certificates, keys and the log's verbosity again.
    pub(crate) async fn run_with(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
        hurry: impl Future<Output = ()> + Send + 'static,
        drain: Duration,
        reload: Option<Reload>,
    ) -> Ended {
        let control = self.control;
        let (stop, stopping) = watch::channel(false);
        let mut duties = JoinSet::new();
        if let Some(reload) = reload {
            let certificate = self.web.as_ref().map(|web| web.certificate.clone());
            let fleet = self.config.fleet.as_ref();
            let place = fleet.and_then(|fleet| fleet.place);
            let reloads = reload_on_hangup(Arc::clone(&control), certificate, reload, place);
            duties.spawn(unless(stopping.clone(), reloads));
        }
        let native = native_address(&self.config);
        listen(
            &mut duties,
            &control,
            &stopping,
            (self.web, self.quic),
            native,
        );
        if let Some(listener) = self.metrics_listener {
            let stop = until(stopping.clone());
            duties.spawn(async move {
                if let Err(error) = listener.run(stop).await {
                    tracing::error!("the metrics listener is closed: {error}");
                }
                Ended::Asked
            });
        }
        look_after(&mut duties, &control, &stopping, &self.config);
        if let Some(supervisor) = &self.supervisor {
            duties.spawn(report(
                Arc::clone(&control),
                supervisor.clone(),
                until(stopping.clone()),
            ));
        }
        if let Some(fleet) = self.fleet.clone() {
            let reports = report_to_fleet(Arc::clone(&control), fleet);
            duties.spawn(unless(stopping.clone(), reports));
        }
        if let Some(telemetry) = self.telemetry {
            let (metrics, stop) = (Arc::clone(&control.metrics), until(stopping.clone()));
            duties.spawn(async move {
                match telemetry.run(move || metrics.usage(), stop).await {
                    telemetry::Ended::Stopped => Ended::Asked,
                    telemetry::Ended::Failing { failures } => Ended::TelemetryFailing { failures },
                }
            });
        }
        if let Some(license) = self.license {
            duties.spawn(unless(stopping.clone(), until_license_ends(license)));
        }
        let mut threads = self.threads;
        let ended = tokio::select! {
            () = shutdown => Ended::Asked,
            ended = first_failure(&mut duties) => ended,
            () = any_ends(&mut threads) => Ended::ShardEnded,
        };
        goodbye(&control, self.supervisor.as_ref(), hurry, drain).await;
        // Only now: reports must have told that the server drains, and clients must have been told to go.
        stop.send_replace(true);
        end_duties(duties).await;
        if let Some(fleet) = self.fleet {
            fleet.farewell(fleet_status(&control)).await;
        }
        control.stop_shards().await;
        join(threads).await;
        ended
    }
}

/// Looks at the machine, and for rooms that are over, until the server stops.
fn look_after(
    duties: &mut JoinSet<Ended>,
    control: &Arc<Control>,
    stopping: &watch::Receiver<bool>,
    config: &Config,
) {
    let looks = look_at_load(Arc::clone(control), config.clone());
    duties.spawn(unless(stopping.clone(), looks));
    let control = Arc::clone(control);
    let ends = async move {
        control.end_kept_rooms().await;
        Ended::Asked
    };
    duties.spawn(unless(stopping.clone(), ends));
}

/// Takes clients until the server stops; those that are in go on.
fn listen(
    duties: &mut JoinSet<Ended>,
    control: &Arc<Control>,
    stopping: &watch::Receiver<bool>,
    (web, quic): (Option<Web>, Option<QuicListener>),
    native: Option<String>,
) {
    if let Some(quic) = quic {
        let streams = signalling::serve_quic(Arc::clone(control), quic.arrivals);
        duties.spawn(async move {
            streams.await;
            Ended::Asked
        });
    }
    if let Some(web) = web {
        let router = signalling::router(Arc::clone(control), native);
        let stop = until(stopping.clone());
        duties.spawn(async move {
            web.listener.run(router, stop).await;
            Ended::Asked
        });
    }
}

/// Where native clients find this server, if it serves them.
fn native_address(config: &Config) -> Option<String> {
    let own = config.quic.as_ref()?.public_address_override.clone();
    own.or_else(|| config.public_address.clone())
}

async fn end_duties(mut duties: JoinSet<Ended>) {
    let _ = tokio::time::timeout(DUTIES_END_TIME, async {
        while duties.join_next().await.is_some() {}
    })
    .await;
    duties.shutdown().await;
}

async fn join(threads: Vec<Thread>) {
    let _ = tokio::task::spawn_blocking(move || {
        for thread in threads {
            // A panic of it was told when it happened.
            let _ = thread.handle.join();
        }
    })
    .await;
}

/// The first duty that must end the server.
async fn first_failure(duties: &mut JoinSet<Ended>) -> Ended {
    while let Some(ended) = duties.join_next().await {
        match ended {
            Ok(Ended::Asked) => {}
            Ok(failure) => return failure,
            Err(error) => tracing::error!("a duty of the server ended: {error}"),
        }
    }
    std::future::pending().await
}

async fn any_ends(threads: &mut [Thread]) {
    let ends = threads.iter_mut().map(|thread| &mut thread.ended);
    // Dropped or sent, it means the same.
    let _ = futures::future::select_all(ends).await;
}

async fn until(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// A duty that has no end of its own.
async fn unless(
    stopping: watch::Receiver<bool>,
    duty: impl Future<Output = Ended> + Send,
) -> Ended {
    tokio::select! {
        ended = duty => ended,
        () = until(stopping) => Ended::Asked,
    }
}

/// Nobody comes in, the gateway is told, time to leave, everybody out.
async fn goodbye(
    control: &Arc<Control>,
    supervisor: Option<&Supervisor>,
    hurry: impl Future<Output = ()> + Send,
    drain: Duration,
) {
    control.begin_draining();
    let leave = async {
        if let Some(supervisor) = supervisor {
            supervisor.farewell(&status(control)).await;
        }
        let began = Instant::now();
        while control.directory().peers() > 0 && began.elapsed() < drain {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    tokio::select! {
        () = leave => {}
        () = hurry => tracing::warn!("asked again: not waiting for anybody"),
    }
    control.send_everybody_away().await;
    have_gone(|| control.directory().peers() == 0).await;
    control.begin_closing();
    have_gone(|| control.directory().clients() == 0).await;
}

/// Waits for streams to end, but not for those that do not.
async fn have_gone(are_gone: impl Fn() -> bool) {
    let began = Instant::now();
    while !are_gone() && began.elapsed() < GOODBYE_TIME {
        tokio::time::sleep(DRAIN_LOOK / 10).await;
    }
}

fn status(control: &Control) -> Status {
    let clients = control.directory().clients();
    Status {
        load: control.metrics.load(),
        clients,
        rooms: control.reported_rooms(),
        is_draining: *control.phase().borrow() != Phase::Serving,
    }
}

fn fleet_status(control: &Control) -> fleet::Status {
    let usage = control.metrics.usage();
    fleet::Status {
        load: control.metrics.load(),
        rooms: usage.rooms,
        peers: usage.peers,
        is_draining: *control.phase().borrow() != Phase::Serving,
    }
}

async fn report_to_fleet(control: Arc<Control>, reports: fleet::Reports) -> Ended {
    let phase = control.phase();
    reports.run(|| fleet_status(&control), phase).await;
    Ended::Asked
}

async fn report(
    control: Arc<Control>,
    supervisor: Supervisor,
    stop: impl Future<Output = ()> + Send,
) -> Ended {
    let (orders, mut received) = mpsc::channel::<Order>(ORDERS_MAX);
    let executor = Arc::clone(&control);
    let carry_out = async move {
        while let Some(order) = received.recv().await {
            executor.execute(order.task).await;
            // Whoever ordered it may have stopped waiting.
            let _ = order.done.send(());
        }
    };
    let status = move || status(&control);
    let (ended, ()) = tokio::join!(supervisor.run(status, orders, stop), carry_out);
    match ended {
        supervisor::Ended::Stopped => Ended::Asked,
        supervisor::Ended::Lost { silent } => Ended::GatewayLost { silent },
    }
}

/// Keeps the load up to date, which reports and metrics tell.
async fn look_at_load(control: Arc<Control>, config: Config) -> Ended {
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let metrics = &control.metrics;
    let intervals = [
        config.supervisor.as_ref().map(|it| it.report_interval),
        config.fleet.as_ref().map(|it| it.report_interval),
        config.metrics.as_ref().map(|it| it.system_update_interval),
    ];
    let interval = intervals
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(LOAD_INTERVAL_MAX)
        .min(LOAD_INTERVAL_MAX);
    let limit: &Limit = &config.limit;
    let mut before = Sample::take(Instant::now(), metrics.shards());
    loop {
        tokio::time::sleep(interval).await;
        let after = Sample::take(Instant::now(), metrics.shards());
        let ids = control.directory().media_ids_used();
        metrics.set_load(load(&before, &after, cores, metrics.usage(), limit).max(ids));
        before = after;
    }
}

async fn until_license_ends(license: License) -> Ended {
    /// Clocks are set and machines sleep: the end is looked for rather than slept up to.
    const LOOK: Duration = Duration::from_secs(10);
    while license.is_valid_at(unix_seconds()) {
        tokio::time::sleep(LOOK).await;
    }
    Ended::LicenseEnded
}

/// # Errors
/// [`ServerError::LicenseEnded`].
pub(super) fn check_license(license: &License) -> Result<(), ServerError> {
    match license.terms().valid_until {
        Some(end) if !license.is_valid_at(unix_seconds()) => Err(ServerError::LicenseEnded(end)),
        _ => Ok(()),
    }
}

fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// Reads certificates, keys and the log's verbosity again on SIGHUP. Whatever is wrong leaves things as they are.
async fn reload_on_hangup(
    control: Arc<Control>,
    certificate: Option<Certificate>,
    reload: Reload,
    place: Option<Place>,
) -> Ended {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return Ended::Asked;
    };
    while hangup.recv().await.is_some() {
        match reload_all(&control, certificate.as_ref(), &reload, place).await {
            Ok(()) => tracing::info!(
                "certificates, keys and the log's verbosity were read again; other settings need a restart"
            ),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::error!("what was not read again stays as it was: {error:#}");
            }
        }
    }
    Ended::Asked
}

async fn reload_all(
    control: &Control,
    certificate: Option<&Certificate>,
    reload: &Reload,
    place: Option<Place>,
) -> Result<(), ServerError> {
    let path = &reload.config;
    let text = std::fs::read_to_string(path).map_err(|cause| SettingsError::File {
        path: path.display().to_string(),
        cause,
    })?;
    let own = Config::parse(path, &text, service::variables())?;
    reload.log.change(&own.log);
    if let (Some(http), Some(certificate)) = (&own.http, certificate) {
        certificate.reload(&http.tls)?;
    }
    if let Some(quic) = &own.quic {
        control.replace_quic_tls(&quic_tls(&quic.tls)?).await;
    }
    // Last: below a gateway this waits until the gateway answers.
    let config = super::settings::settle_at(path, &text, service::variables(), place).await?;
    control.authenticator.set_keys(&config.authorization);
    Ok(())
}
