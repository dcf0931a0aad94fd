//! A client as an application holds it.

use std::{fmt, sync::Arc};

use sfu_core::limits::{NAME_BYTES_MAX, USER_DATA_BYTES_MAX};
use tokio::sync::{mpsc, oneshot};

use crate::{
    config::Config,
    counters::{Counters, MediaCounters},
    entry::Entry,
    error::{ConnectError, JoinError},
    event::MediaId,
    room::{Events, Join, Room},
    shared::Shared,
    supervisor::{Dialer, Supervisor},
    voice::Voice,
};

/// Calls of a client that wait for their turn. Who calls more waits.
const COMMANDS_MAX: usize = 16;

/// A connection to one voice server, with any number of rooms. It ends when this and all of its rooms are dropped.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// What an application asks a client for.
pub(crate) enum Command {
    Join {
        room: String,
        join: Join,
        /// What keeps the client alive for the room.
        client: mpsc::Sender<Self>,
        reply: oneshot::Sender<Result<(Room, Events), JoinError>>,
    },
    Rebind(oneshot::Sender<std::io::Result<()>>),
}

impl Client {
    /// Connects. When this returns, the server has taken the token and voice flows.
    ///
    /// # Errors
    /// [`ConnectError`]. The first connection is tried once; coming back is tried for some time.
    pub async fn connect(entry: Entry, config: Config) -> Result<(Self, Voice), ConnectError> {
        let shared = Arc::new(Shared::new(config.heard_max));
        let mut dialer = Dialer::new(entry, &config)?;
        let link = Box::pin(dialer.dial(&shared)).await?;
        let (sending, commands) = mpsc::channel(COMMANDS_MAX);
        let supervisor = Supervisor::new(dialer, link, config, Arc::clone(&shared), commands);
        tokio::spawn(supervisor.run());
        let voice = Voice::new(Arc::clone(&shared));
        let client = Self {
            commands: sending,
            shared,
        };
        Ok((client, voice))
    }

    /// Joins a room that the token opens. Who is there already is in [`Room::peers`]; what happens from then on comes as
    /// events. While the client is on its way back after a loss, this waits for that.
    ///
    /// # Errors
    /// [`JoinError`]
    pub async fn join(&self, room: &str, join: Join) -> Result<(Room, Events), JoinError> {
        if room.len() > NAME_BYTES_MAX {
            return Err(JoinError::Invalid("the room's name is too long"));
        }
        if join.user_data.len() > USER_DATA_BYTES_MAX {
            return Err(JoinError::Invalid("the user data are too large"));
        }
        if !join.position.iter().all(|it| it.is_finite()) {
            return Err(JoinError::Invalid("a position must be finite"));
        }
        let (reply, joined) = oneshot::channel();
        let command = Command::Join {
            room: room.to_owned(),
            join,
            client: self.commands.clone(),
            reply,
        };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| ConnectError::Closed)?;
        joined.await.unwrap_or(Err(ConnectError::Closed.into()))
    }

    /// Goes on from a new socket, as after a change of the network: a connection of
    /// [`Transport::WebTransport`](crate::Transport::WebTransport) stays, and nobody notices. Where the system gives the
    /// machine another address by itself, this is not needed. Does nothing with
    /// [`Transport::WebSocket`](crate::Transport::WebSocket), which comes back on another way.
    ///
    /// # Errors
    /// When there is no socket to be had, or the client is closed.
    pub async fn rebind(&self) -> std::io::Result<()> {
        let closed = || std::io::Error::from(std::io::ErrorKind::NotConnected);
        let (reply, done) = oneshot::channel();
        let sent = self.commands.send(Command::Rebind(reply)).await;
        sent.map_err(|_| closed())?;
        done.await.unwrap_or_else(|_| Err(closed()))
    }

    /// `host:port` of the voice server, as the gateway named it; after a return it may be another.
    pub fn server(&self) -> String {
        self.shared.server()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.shared.tallies.read()
    }

    /// What became of the packets of another peer's media; `None` for one that is not started.
    pub fn media_counters(&self, media: MediaId) -> Option<MediaCounters> {
        self.shared.media_counters(media)
    }

    /// Leaves all rooms, says goodbye, and waits for that. Every copy of the client is closed.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.closed.cancelled().await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
