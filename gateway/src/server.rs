//! Puts the parts together. [`Server::bind`] returns when the ports are open.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use axum_server::{
    Handle,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use hyper_util::rt::TokioTimer;
use service::SettingsError;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    config::{Config, Tls},
    customers::Customers,
    http::{self, Listener},
    metrics::Metrics,
    state::Gateway,
    store::{RedisAddressError, Store},
};

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings do not allow it.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The shared store cannot be looked for.
    #[error(transparent)]
    Redis(#[from] RedisAddressError),
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

/// A gateway whose ports are open.
#[derive(Debug)]
pub struct Server {
    gateway: Arc<Gateway>,
    main: Socket,
    internal: Option<Socket>,
    tls: Option<RustlsConfig>,
}

#[derive(Debug)]
struct Socket {
    listener: TcpListener,
    address: SocketAddr,
}

impl Socket {
    fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let bind = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|source| ServerError::Bind { address, source })
    }
}

impl Server {
    /// Opens the ports, and reads certificate and customers.
    ///
    /// # Errors
    /// [`ServerError`] when the settings are not usable or a port is taken.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        let tls = match &config.tls {
            Some(files) => Some(certificate(files).await?),
            None => None,
        };
        let main = Socket::bind(config.listen)?;
        let internal = config.internal.listen.map(Socket::bind).transpose()?;
        let metrics = Arc::new(Metrics::default());
        let store = Store::open(&config).await?;
        let customers = Arc::new(Customers::new(&config, Arc::clone(&metrics)));
        customers.refresh().await;
        warn_about(&config);
        let gateway = Arc::new(Gateway::new(config, store, customers, metrics));
        Ok(Self {
            gateway,
            main,
            internal,
            tls,
        })
    }

    /// Whether a gateway could be made from these settings; opens nothing.
    ///
    /// # Errors
    /// [`ServerError`] when certificate and key are not usable.
    pub async fn check(config: &Config) -> Result<(), ServerError> {
        if let Some(files) = &config.tls {
            certificate(files).await?;
        }
        Ok(())
    }

    /// Where customers and clients call.
    pub fn local_addr(&self) -> SocketAddr {
        self.main.address
    }

    /// The address below which the paths start.
    pub fn base_url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.main.address)
    }

    /// The address of `/internal`.
    pub fn internal_url(&self) -> String {
        match &self.internal {
            Some(socket) => format!("http://{}/internal", socket.address),
            None => format!("{}/internal", self.base_url()),
        }
    }

    /// Serves until `shutdown`, then takes no more connections and lets open calls end.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) {
        let gateway = self.gateway;
        let limit = &gateway.config.limit;
        let drain_max = Duration::from_millis(limit.request_deadline_ms);
        let header_time = Duration::from_millis(limit.header_ms);
        let (stop, stopping) = watch::channel(false);
        let mut parts = JoinSet::new();

        let handle = Handle::new();
        let router = http::router(Arc::clone(&gateway), Listener::Main);
        let main = serve(
            self.main,
            self.tls.clone(),
            router,
            handle.clone(),
            header_time,
        );
        parts.spawn(main);
        if let Some(socket) = self.internal {
            let router = http::router(Arc::clone(&gateway), Listener::Internal);
            parts.spawn(serve(socket, None, router, handle.clone(), header_time));
        }
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&gateway.store).run(until(stopping.clone())));
        background.spawn(refresh(Arc::clone(&gateway), self.tls));

        shutdown.await;
        gateway.drain();
        handle.graceful_shutdown(Some(drain_max));
        while parts.join_next().await.is_some() {}
        // Only now: calls that were open have used the store to their end.
        stop.send_replace(true);
        let _ = tokio::time::timeout(Duration::from_secs(1), background.join_next()).await;
        background.shutdown().await;
    }
}

async fn until(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Serves one socket until its handle ends it.
async fn serve(
    socket: Socket,
    tls: Option<RustlsConfig>,
    router: Router,
    handle: Handle<SocketAddr>,
    header_time: Duration,
) {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = match axum_server::from_tcp(socket.listener) {
        Ok(server) => server.handle(handle),
        Err(error) => return tracing::error!("{} is closed: {error}", socket.address),
    };
    let result = match tls {
        Some(tls) => {
            let acceptor = RustlsAcceptor::new(tls)
                .handshake_timeout(header_time)
                .acceptor(NoDelayAcceptor::new());
            let mut server = server.acceptor(acceptor);
            limit_heads(server.http_builder(), header_time);
            server.serve(service).await
        }
        None => {
            let mut server = server.acceptor(NoDelayAcceptor::new());
            limit_heads(server.http_builder(), header_time);
            server.serve(service).await
        }
    };
    if let Err(error) = result {
        tracing::error!("{} is closed: {error}", socket.address);
    }
}

type Builder = hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>;

/// Whoever sends a head byte by byte must not hold a connection for ever.
fn limit_heads(builder: &mut Builder, header_time: Duration) {
    let mut http1 = builder.http1();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(header_time);
    let mut http2 = builder.http2();
    http2
        .timer(TokioTimer::new())
        .keep_alive_interval(header_time)
        .keep_alive_timeout(header_time);
}

/// Reads customers and the certificate anew: customers in their interval, both on SIGHUP.
async fn refresh(gateway: Arc<Gateway>, tls: Option<RustlsConfig>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    let interval = gateway.customers.update_interval();
    loop {
        let next = async {
            match interval {
                Some(interval) => tokio::time::sleep(interval).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = next => {}
            _ = hangup.recv() => {
                if let (Some(tls), Some(files)) = (&tls, &gateway.config.tls) {
                    reload(tls, files).await;
                }
            }
        }
        gateway.customers.refresh().await;
    }
}

async fn reload(tls: &RustlsConfig, files: &Tls) {
    match tls
        .reload_from_pem_file(&files.certificate, &files.private_key)
        .await
    {
        Ok(()) => tracing::info!("the certificate was read anew"),
        Err(error) => tracing::error!("the certificate stays as it was: {error}"),
    }
}

async fn certificate(files: &Tls) -> Result<RustlsConfig, ServerError> {
    // The provider of the process; whoever was first has chosen it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = RustlsConfig::from_pem_file(&files.certificate, &files.private_key).await;
    config.map_err(|error| {
        let (certificate, key) = (files.certificate.display(), files.private_key.display());
        SettingsError::Whole(format!(
            "tls: {certificate} with {key} cannot be used: {error}"
        ))
        .into()
    })
}

/// What is allowed and still worth a thought.
fn warn_about(config: &Config) {
    let internal = config.internal.listen.unwrap_or(config.listen);
    if config.internal.is_open() && !internal.ip().is_loopback() {
        tracing::warn!(%internal, "/internal asks nobody for credentials and hands out private keys");
    }
    if config.unknown_customers != crate::config::UnknownCustomers::Forbidden {
        tracing::warn!("tokens of unknown keys are taken; their signatures cannot be checked");
    }
    if config.allow_published_keys {
        tracing::warn!("keys are taken that everybody knows");
    }
}
