//! Puts the parts together. [`Server::bind`] returns when the ports are open.

mod candidates;
mod duties;
mod settings;

use std::{
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::Arc,
    thread::{self, JoinHandle},
};

use service::SettingsError;
use sfu_core::{Directory, DirectoryLimits, DropReason, RoomLimits};
use tokio::sync::oneshot;

pub(crate) use self::duties::Reload;
pub use self::{duties::Ended, settings::settle};
use crate::{
    auth::Authenticator,
    certificate::Certificate,
    config::{self, Config, Http},
    control::{Control, StreamSettings},
    fleet::{self, FleetError},
    license::License,
    metrics::{self, Metrics},
    shard::{Inbox, Offers, SHARDS_MAX, Shard, ShardNumber, ShardSettings, bind as bind_udp},
    supervisor::{Supervisor, SupervisorError},
    telemetry::{LicenseFacts, Telemetry},
    web_listener::WebListener,
};

/// The names of the reasons, in their order.
const DROP_REASONS: [&str; DropReason::ALL.len()] = {
    let mut names = [""; DropReason::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = DropReason::ALL[at].label();
        at += 1;
    }
    names
};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings do not allow it.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A port is taken or not ours.
    #[error("cannot listen on {address} ({key})")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// Which setting asked for it.
        key: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No address to offer to clients.
    #[error("{0}")]
    Candidates(String),
    /// The gateway gives no settings.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// The Fleet does not know this server.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The licence has ended.
    #[error("the licence ended at {0}")]
    LicenseEnded(crate::ValidUntil),
    /// The system does not give what is needed.
    #[error("{0}")]
    System(String),
}

/// A server whose ports are open.
#[derive(Debug)]
pub struct Server {
    control: Arc<Control>,
    config: Config,
    web: Option<Web>,
    metrics_listener: Option<metrics::Listener>,
    supervisor: Option<Supervisor>,
    fleet: Option<fleet::Reports>,
    telemetry: Option<Telemetry>,
    license: Option<License>,
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Web {
    listener: WebListener,
    certificate: Certificate,
    address: SocketAddr,
    webrtc_address: SocketAddr,
}

/// A shard's thread, and word of its end.
#[derive(Debug)]
struct Thread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Server {
    /// Opens the ports and reads the certificates.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn bind(mut config: Config, license: Option<License>) -> Result<Self, ServerError> {
        if let Some(license) = &license {
            duties::check_license(license)?;
            limit_by(&mut config, license);
        }
        let Some(http) = config.http.clone() else {
            let text = "no listener is configured: [http] is missing";
            return Err(SettingsError::Whole(text.to_owned()).into());
        };
        if config.quic.is_some() {
            tracing::warn!("[quic] was checked, but this version serves web clients only");
        }
        let supervisor = match &config.supervisor {
            Some(supervisor) => Some(Supervisor::new(
                supervisor.clone(),
                config.public_address.clone(),
            )?),
            None => None,
        };
        let shards = shard_count(&http);
        let metrics_config = config.metrics.clone().unwrap_or_default();
        let state = supervisor.as_ref().map(Supervisor::state);
        let mut metrics = Metrics::new(&metrics_config, shards, &DROP_REASONS, state);
        if config.fleet.is_some() {
            metrics.register_fleet();
        }
        let metrics = Arc::new(metrics);
        let fleet = fleet::Reports::of(&config, &metrics)?;
        let certificate = Certificate::read(&http.tls)?;
        let bind = |source| ServerError::Bind {
            address: http.binding,
            key: "http.binding",
            source,
        };
        let listener = WebListener::bind(http.binding, certificate.clone(), Arc::clone(&metrics))
            .map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;

        let (control, threads, webrtc_address) = media(&config, &http, shards, &metrics).await?;
        let metrics_listener = match &config.metrics {
            Some(config) => Some(listen_for_metrics(config, &metrics, &control)?),
            None => None,
        };
        let facts = license.as_ref().map(license_facts).unwrap_or_default();
        let telemetry = config
            .telemetry
            .clone()
            .map(|config| Telemetry::new(config, facts));
        let telemetry = telemetry
            .transpose()
            .map_err(|error| ServerError::System(error.to_string()))?;
        Ok(Self {
            control,
            web: Some(Web {
                listener,
                certificate,
                address,
                webrtc_address,
            }),
            metrics_listener,
            supervisor,
            fleet,
            telemetry,
            license,
            threads,
            config,
        })
    }

    /// Whether a server could be made from these settings; opens nothing.
    ///
    /// # Errors
    /// [`ServerError`] when certificates or the licence are not usable.
    pub fn check(config: &Config, license: Option<&License>) -> Result<(), ServerError> {
        if let Some(license) = license {
            duties::check_license(license)?;
        }
        if let Some(http) = &config.http {
            Certificate::read(&http.tls)?;
        }
        if let Some(quic) = &config.quic {
            Certificate::read(&quic.tls)?;
        }
        Ok(())
    }

    /// Where web clients connect, TCP.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.web.as_ref().map(|web| web.address)
    }

    /// Where the voice of web clients goes, UDP.
    pub fn webrtc_addr(&self) -> Option<SocketAddr> {
        self.web.as_ref().map(|web| web.webrtc_address)
    }

    /// Where Prometheus calls.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_listener
            .as_ref()
            .map(metrics::Listener::local_addr)
    }
}

/// Starts the threads that forward, and makes what connections share.
async fn media(
    config: &Config,
    http: &Http,
    shards: usize,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<Control>, Vec<Thread>, SocketAddr), ServerError> {
    let bind = |source| ServerError::Bind {
        address: http.webrtc_binding,
        key: "http.webrtc_binding",
        source,
    };
    let first = bind_udp(http.webrtc_binding).map_err(bind)?;
    let address = first.local_addr().map_err(bind)?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        sockets.push(bind_udp(address).map_err(bind)?);
    }
    let system = |error: io::Error| ServerError::System(error.to_string());
    let inboxes = (0..shards).map(|_| Inbox::new().map(Arc::new));
    let inboxes = inboxes.collect::<Result<Vec<_>, _>>().map_err(system)?;
    let candidates = candidates::candidates(config, http, address).await?;
    let offers =
        Offers::new(candidates.clone()).map_err(|error| ServerError::System(error.to_owned()))?;
    let mut threads = Vec::with_capacity(shards);
    for (number, socket) in sockets.into_iter().enumerate() {
        let settings = ShardSettings {
            number: ShardNumber(
                u8::try_from(number).expect("there are fewer shards than a byte counts"),
            ),
            limits: RoomLimits {
                media_packets_rate: config.limit.incoming_media_packets.rate,
                media_packets_capacity: config.limit.incoming_media_packets.capacity,
                concurrent_streams: config.limit.concurrent_streams,
            },
            bundle_time: config.internal.bundle_events,
            candidates: candidates.clone(),
            hanging_call: config.internal.log_hanging_api_calls,
            log_rejected: config.internal.log_rejected_api_calls,
        };
        let counters = Arc::clone(&metrics.shards()[number]);
        let thread = start_thread(
            settings,
            socket,
            inboxes.clone(),
            counters,
            Arc::clone(metrics),
        );
        threads.push(thread.map_err(system)?);
    }
    let limits = DirectoryLimits {
        clients: config.limit.max_clients,
        rooms: config.limit.max_rooms,
        peers: config.limit.max_peers,
        medias: config.limit.medias,
    };
    let streams = StreamSettings {
        timeout: http.timeout,
        ping_interval: http.ping_interval,
        no_peers_timeout: http.no_peers_timeout,
        messages: config.limit.incoming_messages,
        resume_grace: config.limit.resume_grace,
        hanging_call: config.internal.log_hanging_api_calls,
        log_rejected: config.internal.log_rejected_api_calls,
    };
    let control = Control::new(
        Directory::new(limits),
        Authenticator::new(&config.authorization),
        offers,
        Arc::clone(metrics),
        streams,
        inboxes,
    );
    Ok((Arc::new(control), threads, address))
}

fn start_thread(
    settings: ShardSettings,
    socket: std::net::UdpSocket,
    inboxes: Vec<Arc<Inbox>>,
    counters: Arc<metrics::ShardCounters>,
    metrics: Arc<Metrics>,
) -> io::Result<Thread> {
    let (word, ended) = oneshot::channel::<()>();
    let name = format!("shard-{}", settings.number.0);
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let handle = thread::Builder::new().name(name).spawn(move || {
        // Dropped when the thread ends, also by a panic.
        let _word = word;
        match Shard::new(settings, socket, inboxes, counters, metrics) {
            Ok(shard) => {
                let _ = ready.send(Ok(()));
                shard.run();
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    })?;
    is_ready
        .recv()
        .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
    Ok(Thread { handle, ended })
}

fn shard_count(http: &Http) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    http.shards
        .unwrap_or_else(|| cores.saturating_sub(1))
        .clamp(1, SHARDS_MAX)
}

fn listen_for_metrics(
    config: &config::Metrics,
    metrics: &Arc<Metrics>,
    control: &Arc<Control>,
) -> Result<metrics::Listener, ServerError> {
    let ready = {
        let control = Arc::clone(control);
        move || control.is_ready()
    };
    metrics::bind(config, Arc::clone(metrics), ready).map_err(|source| ServerError::Bind {
        address: config.binding,
        key: "metrics.binding",
        source,
    })
}

/// What a licence allows bounds what the settings allow.
fn limit_by(config: &mut Config, license: &License) {
    let least = |set: Option<u64>, licensed: Option<u64>| match (set, licensed) {
        (Some(set), Some(licensed)) => Some(set.min(licensed)),
        (set, licensed) => set.or(licensed),
    };
    let licensed = license.limits();
    let limit = &mut config.limit;
    limit.max_clients = least(limit.max_clients, licensed.max_clients);
    limit.max_rooms = least(limit.max_rooms, licensed.max_rooms);
    limit.max_peers = least(limit.max_peers, licensed.max_peers);
}

fn license_facts(license: &License) -> LicenseFacts {
    let terms = license.terms();
    let limits = license.limits();
    LicenseFacts {
        valid_until: terms.valid_until.map(|end| end.to_string()),
        licensee: terms.licensee.clone(),
        serial_number: terms.serial_number.clone(),
        issuer: terms.issuer.clone(),
        client_limit: limits.max_clients,
        peer_limit: limits.max_peers,
        room_limit: limits.max_rooms,
    }
}
