//! Puts the parts together. [`Server::bind`] returns when the ports are open.

mod candidates;
mod duties;
mod media;
mod settings;

use std::{io, net::SocketAddr, sync::Arc, thread::JoinHandle};

use service::SettingsError;
use sfu_core::DropReason;
use tokio::sync::oneshot;

pub(crate) use self::duties::Reload;
use self::media::{Media, QuicListener};
pub use self::{duties::Ended, settings::settle};
use crate::{
    certificate::Certificate,
    config::{self, Config, Http},
    control::Control,
    fleet::{self, FleetError},
    license::License,
    metrics::{self, Metrics},
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
    webrtc: Option<SocketAddr>,
    quic: Option<QuicListener>,
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
        if config.http.is_none() && config.quic.is_none() {
            let text = "no listener is configured: neither [http] nor [quic] is there";
            return Err(SettingsError::Whole(text.to_owned()).into());
        }
        let supervisor = match &config.supervisor {
            Some(supervisor) => Some(Supervisor::new(
                supervisor.clone(),
                config.public_address.clone(),
            )?),
            None => None,
        };
        let shards = media::shard_count(&config);
        let metrics_config = config.metrics.clone().unwrap_or_default();
        let state = supervisor.as_ref().map(Supervisor::state);
        let mut metrics = Metrics::new(&metrics_config, shards, &DROP_REASONS, state);
        if config.fleet.is_some() {
            metrics.register_fleet();
        }
        let metrics = Arc::new(metrics);
        let fleet = fleet::Reports::of(&config, &metrics)?;
        let web = config.http.as_ref().map(|http| bind_web(http, &metrics));
        let web = web.transpose()?;
        let Media {
            control,
            threads,
            webrtc,
            quic,
        } = media::start(&config, shards, &metrics).await?;
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
            web,
            webrtc,
            quic,
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
            media::quic_tls(&quic.tls)?;
        }
        Ok(())
    }

    /// Where web clients connect, TCP.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.web.as_ref().map(|web| web.address)
    }

    /// Where the voice of web clients goes, UDP.
    pub fn webrtc_addr(&self) -> Option<SocketAddr> {
        self.webrtc
    }

    /// Where native clients connect, UDP.
    pub fn quic_addr(&self) -> Option<SocketAddr> {
        self.quic.as_ref().map(|quic| quic.address)
    }

    /// Where Prometheus calls.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_listener
            .as_ref()
            .map(metrics::Listener::local_addr)
    }
}

fn bind_web(http: &Http, metrics: &Arc<Metrics>) -> Result<Web, ServerError> {
    let certificate = Certificate::read(&http.tls)?;
    let bind = |source| ServerError::Bind {
        address: http.binding,
        key: "http.binding",
        source,
    };
    let listener = WebListener::bind(http.binding, certificate.clone(), Arc::clone(metrics));
    let listener = listener.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    Ok(Web {
        listener,
        certificate,
        address,
    })
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
