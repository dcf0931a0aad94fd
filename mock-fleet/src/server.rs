//! Assembly: sockets, routers, shutdown.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use service::{EXIT_BAD_CONFIG, ended, start_log};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::{self, Shared};
use crate::config::{Arguments, Config};
use crate::control;
use crate::faults::Faults;
use crate::handle::Handle;
use crate::limits;
use crate::state::State;
use crate::world::WorldError;

/// A simulator whose sockets are bound.
#[derive(Debug)]
pub struct Server {
    api: TcpListener,
    local_addr: SocketAddr,
    control: Option<(TcpListener, SocketAddr)>,
    shared: Arc<Shared>,
}

/// Why a simulator does not start or run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The world refers to something that is not in it.
    #[error(transparent)]
    World(#[from] WorldError),
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The control API knows no tokens, so it stays on this machine.
    #[error("--control {0} is not a loopback address; --insecure allows it")]
    ControlExposed(SocketAddr),
    /// A socket failed while it was served.
    #[error("serving failed: {0}")]
    Serve(#[source] io::Error),
}

impl Server {
    /// Builds the world and binds the sockets; connections queue from here on.
    ///
    /// # Errors
    /// When the world makes no sense or an address cannot be bound.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        let state =
            State::new(&config.world, config.clock.now(), config.seed).map_err(WorldError::from)?;
        let exposed = config
            .control_listen
            .filter(|address| !address.ip().is_loopback());
        if let (Some(address), false) = (exposed, config.insecure) {
            return Err(ServerError::ControlExposed(address));
        }
        let (api, local_addr) = listen(config.listen).await?;
        let control = match config.control_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let faults = Faults::new(config.faults, config.seed);
        let shared = Arc::new(Shared::new(state, faults, config.clock, config.api));
        Ok(Self {
            api,
            local_addr,
            control,
            shared,
        })
    }

    /// Where the API listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Base address of the API; paths below it begin with `/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/api", self.local_addr)
    }

    /// Where the control API listens, if it does.
    #[must_use]
    pub fn control_addr(&self) -> Option<SocketAddr> {
        self.control.as_ref().map(|(_, address)| *address)
    }

    /// A hold on the simulator for the program that it runs in.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Serves until `shutdown` completes; then open requests get a few seconds to finish.
    ///
    /// # Errors
    /// When a socket fails.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let stop = CancellationToken::new();
        let api = serve(
            self.api,
            api::router(Arc::clone(&self.shared)),
            stop.clone(),
        );
        let control = async {
            match self.control {
                Some((listener, _)) => {
                    serve(listener, control::router(self.shared), stop.clone()).await
                }
                None => Ok(()),
            }
        };
        let serving = async { tokio::try_join!(api, control).map(|_| ()) };
        tokio::pin!(serving);
        tokio::select! {
            result = &mut serving => return result.map_err(ServerError::Serve),
            () = shutdown => stop.cancel(),
        }
        match tokio::time::timeout(Duration::from_secs(limits::DRAIN_SECONDS), serving).await {
            Ok(result) => result.map_err(ServerError::Serve),
            Err(_) => {
                tracing::warn!("open requests were cut off");
                Ok(())
            }
        }
    }
}

/// The control API knows no tokens: unless told otherwise it stays on this machine.
fn refuse_exposed(config: &Config) -> Result<(), ServerError> {
    match config
        .control_listen
        .filter(|address| !address.ip().is_loopback())
    {
        Some(address) if !config.insecure => Err(ServerError::ControlExposed(address)),
        _ => Ok(()),
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let refuse = |source| ServerError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let local = listener.local_addr().map_err(refuse)?;
    Ok((listener, local))
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "answers of this connection may be delayed");
        }
    });
    let router = router.layer(CatchPanicLayer::new());
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// The command: from its arguments to its exit code.
pub async fn command(arguments: Arguments) -> ExitCode {
    start_log(arguments.log_format);
    let refuse = |problem: &dyn std::fmt::Display| {
        // When stderr is gone there is nobody left to tell.
        drop(writeln!(io::stderr(), "mock-fleet: {problem}"));
        ExitCode::from(EXIT_BAD_CONFIG)
    };
    let config = match arguments.config() {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    if arguments.check_config {
        return match refuse_exposed(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error),
        };
    }
    let server = match Server::bind(config).await {
        Ok(server) => server,
        Err(error @ ServerError::Bind { .. }) => {
            refuse(&error);
            return ExitCode::FAILURE;
        }
        Err(error) => return refuse(&error),
    };
    tracing::info!(
        base_url = server.base_url(),
        control = server.control_addr().map(tracing::field::display),
        "mock-fleet simulates the ODIN Fleet API: nothing here is real"
    );
    match server.run(ended()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
