//! Puts the parts together. [`Server::bind`] returns when the port is open.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::ListenerExt as _;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::{
    api::{self, Bridge},
    config::{Config, ConfigError},
    fleet::Fleet,
    index::Index,
    metrics::Metrics,
};

/// Open calls get this long to end on the way out, beyond their own deadline.
const DRAIN_SLACK: Duration = Duration::from_secs(1);

/// Why the bridge did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings do not allow it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The Fleet's address is not usable.
    #[error("ODIN_API_URL: {0}")]
    Client(#[from] fleet_client::BuildError),
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
        let index = Index::new(fleet.clone(), Arc::clone(&metrics), &config);
        let bridge = Bridge {
            index: Arc::new(index),
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
        })
    }

    /// Whether a bridge could be made from these settings; opens nothing.
    ///
    /// # Errors
    /// [`ServerError`] when the settings are not usable.
    pub fn check(config: &Config) -> Result<(), ServerError> {
        config.check_exposure()?;
        Fleet::new(config, Arc::new(Metrics::default()))?;
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
        let (stop, mut stopping) = watch::channel(false);
        tokio::spawn(async move {
            shutdown.await;
            stop.send_replace(true);
        });
        let mut drained = stopping.clone();
        if self.bridge.config.index.enabled {
            let index = Arc::clone(&self.bridge.index);
            tokio::spawn(index.run(until(stopping.clone())));
        }
        // An answer is written in one go; waiting for more of it only costs time.
        let listener = self.listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
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
    }
}

async fn until(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}
