//! Puts the parts together. [`Server::bind`] returns when the port is open.

use std::{
    error::Error as StdError, future::Future, io, net::SocketAddr, sync::Arc, time::Duration,
};

use axum::serve::ListenerExt as _;
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    api::{self, Bridge},
    config::{Config, ConfigError},
    coordinator::Coordinator,
    fleet::Fleet,
    index::{Index, Publisher},
    metrics::Metrics,
    store::Store,
    voice::{Meters, VoiceError},
};

/// Open calls get this long to end on the way out, beyond their own deadline.
const DRAIN_SLACK: Duration = Duration::from_secs(1);

/// What runs beside the calls gets this long to end once they have.
const BACKGROUND_DRAIN: Duration = Duration::from_secs(1);

/// Milliseconds that a client may leave what it was sent unacknowledged. A reader of the events that does not read is
/// disconnected then; the events themselves wait in the store and not for it.
const STALL_MS: u32 = 30_000;

/// Why the bridge did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings do not allow it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The Fleet's address is not usable.
    #[error("ODIN_API_URL: {0}")]
    Client(#[from] fleet_client::BuildError),
    /// The store of the settings cannot be used.
    #[error(transparent)]
    Store(Box<dyn StdError + Send + Sync>),
    /// Voice cannot be offered.
    #[error("{0}")]
    Voice(#[from] VoiceError),
    /// Game servers cannot be called.
    #[error("game servers cannot be called: {0}")]
    GameServers(#[from] reqwest::Error),
    /// Webhooks cannot be sent.
    #[error("webhooks cannot be sent: {0}")]
    Webhooks(#[source] reqwest::Error),
    /// The metrics of voice servers cannot be read.
    #[error("metrics of voice servers cannot be read: {0}")]
    Meters(#[source] reqwest::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A bridge whose port is open.
#[derive(Debug)]
pub struct Server {
    bridge: Arc<Bridge>,
    listener: TcpListener,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Opens the port. The Fleet is not asked for anything yet: `/readyz` says whether it is there.
    ///
    /// # Errors
    /// [`ServerError`] when the settings are not usable or the port is taken.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        config.check_exposure()?;
        let metrics = Arc::new(Metrics::default());
        let fleet = Fleet::new(&config, Arc::clone(&metrics))?;
        let wanted = config.listen;
        let bind_error = |source| ServerError::Bind {
            address: wanted,
            source,
        };
        let listener = TcpListener::bind(wanted).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let index = Arc::new(Index::new(fleet.clone(), Arc::clone(&metrics), &config));
        let store = Store::open(&config.store).await;
        let store = Arc::new(store.map_err(|error| ServerError::Store(Box::new(error)))?);
        let coordinator = Coordinator::new(
            &config,
            Arc::clone(&store),
            fleet.clone(),
            Arc::clone(&index),
            Arc::clone(&metrics),
        )?;
        let meters = Meters::new(config.page.voice_metrics.clone()).map_err(ServerError::Meters)?;
        let (stop, stopping) = watch::channel(false);
        let bridge = Bridge {
            meters,
            index,
            store,
            coordinator,
            seats: Arc::new(Semaphore::new(config.limit.subscribers)),
            stopping,
            permits: Semaphore::new(config.limit.requests),
            config,
            fleet,
            metrics,
            readiness: Arc::default(),
        };
        Ok(Self {
            bridge: Arc::new(bridge),
            listener,
            address,
            stop,
        })
    }

    /// Whether a bridge could be made from these settings; opens nothing.
    ///
    /// # Errors
    /// [`ServerError`] when the settings are not usable.
    pub fn check(config: &Config) -> Result<(), ServerError> {
        config.check_exposure()?;
        let metrics = Arc::new(Metrics::default());
        let fleet = Fleet::new(config, Arc::clone(&metrics))?;
        let index = Arc::new(Index::new(fleet.clone(), Arc::clone(&metrics), config));
        Coordinator::new(config, Arc::new(Store::memory()), fleet, index, metrics)?;
        Ok(())
    }

    /// Where the bridge listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address below which the paths start.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until `shutdown`, then takes no more connections and lets open calls end within their deadline.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) {
        let deadline = Duration::from_millis(self.bridge.config.limit.request_deadline_ms);
        let drain_max = deadline.saturating_add(DRAIN_SLACK);
        let mut background = JoinSet::new();
        let (close, closing) = watch::channel(false);
        self.bridge.spawn_background(&mut background, closing);
        let mut stopping = self.bridge.stopping.clone();
        let stop = self.stop;
        tokio::spawn(async move {
            shutdown.await;
            stop.send_replace(true);
        });
        let mut drained = stopping.clone();
        let listener = self.listener.tap_io(|stream| set_up(stream));
        let serve =
            axum::serve(listener, api::router(self.bridge)).with_graceful_shutdown(async move {
                let _ = stopping.wait_for(|stop| *stop).await;
            });
        let too_late = async move {
            let _ = drained.wait_for(|stop| *stop).await;
            tokio::time::sleep(drain_max).await;
        };
        tokio::select! {
            _ = serve.into_future() => {}
            () = too_late => tracing::warn!("calls were still open"),
        }
        // Only now: calls that were open have used the store to their end.
        close.send_replace(true);
        let ended = async { while background.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(BACKGROUND_DRAIN, ended).await;
    }
}

impl Bridge {
    /// What runs beside the calls: the store until `closing`, the walks until no more calls are taken.
    fn spawn_background(&self, background: &mut JoinSet<()>, closing: watch::Receiver<bool>) {
        let store = Arc::clone(&self.store);
        background.spawn(async move { store.run(until(closing)).await });
        if let Some(coordinator) = &self.coordinator {
            let coordinator = Arc::clone(coordinator);
            background.spawn(coordinator.run(until(self.stopping.clone())));
        }
        if self.follows_servers() {
            let (store, metrics) = (Arc::clone(&self.store), Arc::clone(&self.metrics));
            let publisher = Publisher::new(store, metrics, self.config.keys.clone());
            let index = Arc::clone(&self.index);
            background.spawn(index.run(publisher, until(self.stopping.clone())));
        }
    }
}

/// Whatever a connection does not take is worth less than a connection that works.
fn set_up(stream: &TcpStream) {
    // An answer is written in one go; waiting for more of it only costs time.
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, TcpUserTimeout, &STALL_MS);
}

async fn until(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}
