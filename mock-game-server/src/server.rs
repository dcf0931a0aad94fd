//! Puts the parts together: one lifecycle, its instance in the Fleet, the match API and the game port.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Mutex, watch},
};

use crate::{
    config::Config,
    error::ServerError,
    fleet::Instance,
    http,
    lifecycle::{Finish, GameMatch, Lifecycle, Plan, Refusal, Start, State},
    ping,
};

/// Open requests get this long to end on the way out.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// First wait of a match that cannot be finished because the Fleet is away.
const FINISH_DELAY_FIRST: Duration = Duration::from_secs(1);

/// Longest such wait.
const FINISH_DELAY_MAX: Duration = Duration::from_secs(60);

/// Why a change did not happen. Nothing has changed then.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refusal),
    Fleet(fleet_client::Error),
}

/// The game, shared by the match API and the match timers.
#[derive(Debug)]
pub(crate) struct Game {
    /// Held while the Fleet is written to: changes happen one after the other.
    lifecycle: Mutex<Lifecycle>,
    instance: Instance,
    /// What the game port says; follows the lifecycle.
    shown: watch::Sender<State>,
    match_duration: Option<Duration>,
}

/// A game server that listens and has announced itself.
#[derive(Debug)]
pub struct Server {
    config: Config,
    game: Arc<Game>,
    http: TcpListener,
    http_address: SocketAddr,
    game_socket: Arc<UdpSocket>,
    game_address: SocketAddr,
}

impl Game {
    pub(crate) async fn start(self: &Arc<Self>, start: Start) -> Result<(), Failure> {
        let mut lifecycle = self.lifecycle.lock().await;
        let Some(plan) = lifecycle.start(start).map_err(Failure::Refused)? else {
            return Ok(());
        };
        self.write(&mut lifecycle, plan)
            .await
            .map_err(Failure::Fleet)?;
        if let (State::Occupied(running), Some(duration)) = (lifecycle.state(), self.match_duration)
        {
            tokio::spawn(Arc::clone(self).finish_after(running.clone(), duration));
        }
        Ok(())
    }

    pub(crate) async fn finish(&self, finish: Finish) -> Result<(), Failure> {
        let mut lifecycle = self.lifecycle.lock().await;
        let plan = lifecycle.finish(finish).map_err(Failure::Refused)?;
        self.write(&mut lifecycle, plan)
            .await
            .map_err(Failure::Fleet)
    }

    pub(crate) async fn players(&self, count: u32) -> Result<(), Failure> {
        let mut lifecycle = self.lifecycle.lock().await;
        let plan = lifecycle.players(count).map_err(Failure::Refused)?;
        self.write(&mut lifecycle, plan)
            .await
            .map_err(Failure::Fleet)
    }

    async fn announce(&self) -> Result<(), fleet_client::Error> {
        let mut lifecycle = self.lifecycle.lock().await;
        let plan = lifecycle.announce();
        self.write(&mut lifecycle, plan).await
    }

    async fn leave(&self, label: &str) -> Result<(), fleet_client::Error> {
        let mut lifecycle = self.lifecycle.lock().await;
        let plan = lifecycle.leave(label);
        self.write(&mut lifecycle, plan).await
    }

    /// The Fleet first: what it has not taken has not happened.
    async fn write(
        &self,
        lifecycle: &mut Lifecycle,
        plan: Plan,
    ) -> Result<(), fleet_client::Error> {
        self.instance.update(plan.metadata.clone()).await?;
        lifecycle.commit(plan);
        self.shown.send_replace(lifecycle.state().clone());
        tracing::info!(state = lifecycle.state().label(), "metadata updated");
        Ok(())
    }

    /// Ends the match when its time is over, if it still runs then. While the Fleet is away it keeps trying.
    async fn finish_after(self: Arc<Self>, running: GameMatch, duration: Duration) {
        tokio::time::sleep(duration).await;
        let mut delay = FINISH_DELAY_FIRST;
        loop {
            {
                let mut lifecycle = self.lifecycle.lock().await;
                if *lifecycle.state() != State::Occupied(running.clone()) {
                    return;
                }
                let outcome = Finish {
                    match_id: None,
                    outcome: Some("time is up".to_owned()),
                };
                let Ok(plan) = lifecycle.finish(outcome) else {
                    return;
                };
                match self.write(&mut lifecycle, plan).await {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, "a match cannot be finished yet"),
                }
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(FINISH_DELAY_MAX);
        }
    }
}

impl Server {
    /// Opens the ports and marks the instance idle. Returns when both are done.
    ///
    /// # Errors
    /// [`ServerError`] when a port is taken, the Fleet's address is not usable, or the Fleet does not take the
    /// announcement.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        let bind_error = |address| move |source| ServerError::Bind { address, source };
        let wanted = SocketAddr::from((config.game_interface, config.game_port));
        let socket = UdpSocket::bind(wanted).await.map_err(bind_error(wanted))?;
        let game_address = socket.local_addr().map_err(bind_error(wanted))?;
        let wanted = config.http_listen;
        let http = TcpListener::bind(wanted)
            .await
            .map_err(bind_error(wanted))?;
        let http_address = http.local_addr().map_err(bind_error(wanted))?;

        let port = http_address.port().to_string();
        let match_api = config
            .public_url
            .as_ref()
            .map(|url| url.replace("{port}", &port));
        let game = Arc::new(Game {
            lifecycle: Mutex::new(Lifecycle::new(game_address.port(), match_api)),
            instance: Instance::new(&config)?,
            shown: watch::Sender::new(State::Idle),
            match_duration: config.match_duration,
        });
        game.announce().await.map_err(ServerError::Announce)?;
        Ok(Self {
            config,
            game,
            http,
            http_address,
            game_socket: Arc::new(socket),
            game_address,
        })
    }

    /// Where the match API listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_address
    }

    /// Where players connect.
    pub fn game_addr(&self) -> SocketAddr {
        self.game_address
    }

    /// Serves until `shutdown`, then lets open requests end and marks the instance as the settings say.
    ///
    /// # Errors
    /// When the Fleet does not take the last update: the instance then looks as it did before.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), fleet_client::Error> {
        let pings = ping::answer(
            self.game_socket,
            self.config.service_id,
            self.game.shown.subscribe(),
        );
        let pings = tokio::spawn(pings);
        let (stop, mut stopping) = watch::channel(false);
        tokio::spawn(async move {
            shutdown.await;
            stop.send_replace(true);
        });
        let mut drained = stopping.clone();
        let router = http::router(Arc::clone(&self.game));
        let serve = axum::serve(self.http, router).with_graceful_shutdown(async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        });
        let too_late = async move {
            let _ = drained.wait_for(|stop| *stop).await;
            tokio::time::sleep(DRAIN_MAX).await;
        };
        tokio::select! {
            _ = serve.into_future() => {}
            () = too_late => tracing::warn!("requests were still open"),
        }
        let left = self.game.leave(self.config.exit_state.label()).await;
        pings.abort();
        left
    }
}
