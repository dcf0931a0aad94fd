//! Puts the parts together: binds the sockets, announces the server, runs it, and ends it in order.

use std::{net::SocketAddr, path::Path, time::Duration};

use axum::serve::ListenerExt as _;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, MatchPort},
    driver::Driver,
    error::ServerError,
    fleet::Instance,
    heartbeat,
    http::{self, Api},
    journal::Journal,
    lifecycle::{Addresses, Lifecycle},
    ping::{self, Standing},
};

/// Open requests get this long to end on the way out. They have been answered by then, or their callers are slow.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// A game server that listens and has announced itself.
#[derive(Debug)]
pub struct Server {
    service_id: i64,
    http: TcpListener,
    http_address: SocketAddr,
    game_socket: UdpSocket,
    game_address: SocketAddr,
    driver: Driver,
    api: Api,
    standing: watch::Receiver<Standing>,
    instance: Instance,
    heartbeat: Option<Duration>,
}

impl Server {
    /// Opens the ports and marks the instance idle. Returns when both are done; a Fleet that is away is told later.
    ///
    /// # Errors
    /// [`ServerError`] when a port is taken, the Fleet's address is not usable, or the Fleet refuses the
    /// announcement.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        let instance = Instance::new(&config)?;
        let bind_error = |address| move |source| ServerError::Bind { address, source };
        let wanted = SocketAddr::from((config.game_interface, config.game_port));
        let game_socket = UdpSocket::bind(wanted).await.map_err(bind_error(wanted))?;
        let game_address = game_socket.local_addr().map_err(bind_error(wanted))?;
        let wanted = config.http_listen;
        let http = TcpListener::bind(wanted)
            .await
            .map_err(bind_error(wanted))?;
        let http_address = http.local_addr().map_err(bind_error(wanted))?;

        let path = config.journal.as_deref();
        let journal = Journal::open(path, config.service_id).map_err(|source| {
            let path = path.map(Path::to_owned).unwrap_or_default();
            ServerError::Journal { path, source }
        })?;
        let (mut driver, game, standing) = Driver::new(
            &config,
            lifecycle(&config, game_address.port(), http_address.port()),
            instance.clone(),
            journal,
        );
        driver.announce().await?;
        let service_id = config.service_id;
        tracing::info!(service_id, http = %http_address, game = %game_address, "listening");
        if !http_address.ip().is_loopback() && config.match_token.is_none() {
            tracing::warn!(http = %http_address, "whoever reaches this address can start and finish matches");
        }
        Ok(Self {
            service_id,
            http,
            http_address,
            game_socket,
            game_address,
            driver,
            api: Api {
                game,
                standing: standing.clone(),
                token: config.match_token,
            },
            standing,
            instance,
            heartbeat: config.heartbeat,
        })
    }

    /// Where the match API listens.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http_address
    }

    /// Where players connect.
    #[must_use]
    pub fn game_addr(&self) -> SocketAddr {
        self.game_address
    }

    /// Serves until `shutdown`, then lets open requests end and marks the instance as the settings say.
    ///
    /// # Errors
    /// When the Fleet does not take the last update: the instance then looks as it did before.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), fleet_client::Error> {
        let stop = CancellationToken::new();
        let asked = async {
            shutdown.await;
            stop.cancel();
        };
        let http = serve_http(self.http, self.api, stop.clone());
        let ping = ping::run(
            self.game_socket,
            self.service_id,
            self.standing,
            stop.clone(),
        );
        let driver = self.driver.run(stop.clone());
        let heartbeat = heartbeat::run(&self.instance, self.heartbeat, stop.clone());
        let (left, (), (), (), ()) = tokio::join!(driver, http, ping, heartbeat, asked);
        left
    }
}

fn lifecycle(config: &Config, game_port: u16, http_port: u16) -> Lifecycle {
    let match_api = config
        .public_url
        .as_ref()
        .map(|url| url.replace("{port}", &http_port.to_string()));
    Lifecycle::new(Addresses {
        game_port: config.announced_port.unwrap_or(game_port),
        match_api: match_api.as_deref(),
        match_port: config.match_port.map(|port| match port {
            MatchPort::Own => http_port,
            MatchPort::Published(port) => port.get(),
        }),
    })
}

async fn serve_http(listener: TcpListener, api: Api, stop: CancellationToken) {
    // An answer is written in one go; waiting for more of it only costs time.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let serve = axum::serve(listener, http::router(api))
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        // It returns when it was told to and never with an error: errors of a connection end that connection.
        _ = serve.into_future() => {}
        () = too_late => tracing::warn!("requests were still open"),
    }
}
