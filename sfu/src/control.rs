//! What all connections share: the directory of rooms behind a lock that no voice waits for, the shards, and who is on
//! the way in. Tasks of a gateway are carried out here.

mod direction;
mod grace;
mod seats;
mod stays;
mod tickets;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use gateway_api::{ReportedRoom, RoomId, Task};
use sfu_core::{
    Directory, LeaveReason, PeerId, Refusal, RoomKey, RoomNumber,
    limits::{MESSAGE_BYTES_MAX, USER_DATA_BYTES_MAX},
};
use tokio::sync::{Semaphore, watch};

pub(crate) use self::{
    direction::{Direction, DirectionError, MUTE_TIME_MAX, MuteOrder},
    grace::{LET_GO_TIME, ResumeError},
    seats::{ClientSeat, PeerSeat},
    stays::{ResumeKey, Stay, Stays},
    tickets::{Entry, Newcomer, Ticket, Tickets},
};
use crate::{
    auth::{Authenticator, Identity},
    config::MessageRate,
    metrics::{Metrics, Transport},
    shard::{ClientId, Inbox, Offers, QuicTls, Request, ShardNumber},
};

/// Connections that have not said who they are; one more is refused. Each may take the authentication time.
const STRANGERS_MAX: usize = 4_096;

/// Settings of the streams of one transport.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamSettings {
    /// Longest silence, and longest wait for a client that does not read.
    pub(crate) timeout: Duration,
    /// `None` where the transport looks after itself.
    pub(crate) ping_interval: Option<Duration>,
    /// How long a client may stay after its last room.
    pub(crate) no_peers_timeout: Duration,
    pub(crate) messages: MessageRate,
    /// How long the place of a lost peer is kept; zero is not at all.
    pub(crate) resume_grace: Duration,
    pub(crate) hanging_call: Option<Duration>,
    pub(crate) log_rejected: bool,
}

/// How far the server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Nobody comes in any more.
    Draining,
    /// Everybody has to leave their rooms.
    Leaving,
    /// Everybody has to go.
    Closing,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Control {
    directory: Mutex<Directory>,
    pub(crate) authenticator: Authenticator,
    pub(crate) offers: Offers,
    pub(crate) metrics: Arc<Metrics>,
    /// Of web clients.
    pub(crate) web: StreamSettings,
    /// Of native clients.
    pub(crate) quic: StreamSettings,
    pub(crate) tickets: Tickets,
    pub(crate) stays: Stays,
    pub(crate) strangers: Arc<Semaphore>,
    shards: Vec<Arc<Inbox>>,
    /// Of each shard: who holds it says what the directory remembers of users, and says it to the shard.
    directions: Vec<tokio::sync::Mutex<()>>,
    last_client: AtomicU64,
    phase: watch::Sender<Phase>,
}

impl Control {
    pub(crate) fn new(
        directory: Directory,
        authenticator: Authenticator,
        offers: Offers,
        metrics: Arc<Metrics>,
        [web, quic]: [StreamSettings; 2],
        shards: Vec<Arc<Inbox>>,
    ) -> Self {
        Self {
            directory: Mutex::new(directory),
            authenticator,
            offers,
            metrics,
            web,
            quic,
            tickets: Tickets::default(),
            stays: Stays::default(),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            directions: shards.iter().map(|_| Default::default()).collect(),
            shards,
            last_client: AtomicU64::new(0),
            phase: watch::Sender::new(Phase::Serving),
        }
    }

    pub(crate) fn directory(&self) -> MutexGuard<'_, Directory> {
        // The directory is whole between any two calls of it.
        self.directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Whether clients can come in, or why not.
    pub(crate) fn is_ready(&self) -> Result<(), &'static str> {
        match *self.phase.borrow() {
            Phase::Serving if self.authenticator.is_usable() => Ok(()),
            Phase::Serving => Err("no key is known that may sign tokens"),
            Phase::Draining | Phase::Leaving | Phase::Closing => Err("server is closing"),
        }
    }

    /// Where a shard takes requests.
    pub(crate) fn shard(&self, number: ShardNumber) -> &Inbox {
        &self.shards[number.index()]
    }

    /// The shard of a room. Rooms that a gateway keeps on one server are on one shard as well, and so is the session of a
    /// client whose token opens them.
    pub(crate) fn shard_of(&self, room: &RoomKey) -> ShardNumber {
        let id = RoomId {
            namespace: room.namespace.clone(),
            name: room.name.clone(),
        };
        let hash = id.hash();
        let [first, second, ..] = *hash.as_bytes();
        let at = usize::from(u16::from_be_bytes([first, second])) % self.shards.len();
        ShardNumber(u8::try_from(at).expect("there are fewer shards than a byte counts"))
    }

    /// Lets a client in. One whose voice connection is there already is on the shard of that.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn admit_client(
        self: &Arc<Self>,
        identity: &Identity,
        connected: Option<ShardNumber>,
    ) -> Result<ClientSeat, Refusal> {
        self.directory().admit_client()?;
        let transport = match connected {
            None => Transport::Web,
            Some(_) => Transport::Quic,
        };
        let name = identity.rooms.first().cloned().unwrap_or_default();
        let room = RoomKey {
            namespace: identity.namespace.clone(),
            name,
        };
        let id = ClientId(self.last_client.fetch_add(1, Ordering::Relaxed));
        let shard = connected.unwrap_or_else(|| self.shard_of(&room));
        Ok(ClientSeat::new(Arc::clone(self), id, shard, transport))
    }

    /// Carries out what a gateway asks for.
    pub(crate) async fn execute(&self, task: Task) {
        let now = Instant::now();
        let key = RoomKey {
            namespace: task.room().namespace.clone(),
            name: task.room().name.clone(),
        };
        match task {
            Task::RoomClose { ban_time, .. } => {
                let meant = self.in_room(&key, |directory| {
                    directory.close(now, &key, ban_time.into())
                });
                self.remove(&key, meant, LeaveReason::RoomClosing).await;
            }
            Task::RoomBanClient {
                user_id, ban_time, ..
            } => {
                let meant = self.in_room(&key, |directory| {
                    directory.ban(now, &key, &user_id, ban_time.into())
                });
                self.remove(&key, meant, LeaveReason::PeerKicked).await;
            }
            Task::RoomUpdate { user_data, .. } => {
                if user_data.len() > USER_DATA_BYTES_MAX {
                    return tracing::warn!(
                        bytes = user_data.len(),
                        "the user data of a RoomUpdate is too large"
                    );
                }
                if let Some((room, _)) = self.in_room(&key, |_| Vec::new()) {
                    let user_data = Bytes::from(user_data);
                    self.submit(&key, Request::UpdateRoom { room, user_data })
                        .await;
                }
            }
            Task::RoomSendMessage {
                user_id, message, ..
            } => self.send_message(&key, &user_id, message).await,
            Task::RoomMuteClient {
                user_id,
                listener_id,
                mute_time,
                reason,
                ..
            } => {
                tracing::info!(
                    room = key.name,
                    user = user_id,
                    listener = listener_id,
                    reason,
                    "a moderator mutes"
                );
                let mute = MuteOrder {
                    user_id,
                    listener_id,
                    time: mute_time.into(),
                    reason,
                };
                self.moderate(&key, Direction::mute(mute)).await;
            }
            Task::RoomUnmuteClient {
                user_id,
                listener_id,
                ..
            } => {
                let unmute = Direction::unmute(user_id, listener_id);
                self.moderate(&key, unmute).await;
            }
        }
    }

    async fn send_message(&self, key: &RoomKey, user_id: &str, message: Vec<u8>) {
        if message.len() > MESSAGE_BYTES_MAX {
            return tracing::warn!(
                bytes = message.len(),
                "the message of a RoomSendMessage is too large"
            );
        }
        let meant = self.in_room(key, |directory| directory.peers_of(key, Some(user_id)));
        if let Some((room, peers)) = meant {
            let message = Request::SendMessage {
                room,
                peers,
                message: Bytes::from(message),
            };
            self.submit(key, message).await;
        }
    }

    async fn moderate(&self, key: &RoomKey, direction: Direction) {
        if let Err(error) = self.direct(key, "", direction).await {
            tracing::error!("a gateway's word on who is heard is not followed: {error}");
        }
    }

    /// The room's number, if there is one, and the peers that `choose` names.
    fn in_room(
        &self,
        key: &RoomKey,
        choose: impl FnOnce(&mut Directory) -> Vec<PeerId>,
    ) -> Option<(RoomNumber, Vec<PeerId>)> {
        let mut directory = self.directory();
        let peers = choose(&mut directory);
        directory.room(key).map(|room| (room, peers))
    }

    async fn remove(
        &self,
        key: &RoomKey,
        meant: Option<(RoomNumber, Vec<PeerId>)>,
        reason: LeaveReason,
    ) {
        if let Some((room, peers)) = meant {
            self.submit(
                key,
                Request::Remove {
                    room,
                    peers,
                    reason,
                },
            )
            .await;
        }
    }

    async fn submit(&self, key: &RoomKey, request: Request) {
        if self
            .shard(self.shard_of(key))
            .submit(request)
            .await
            .is_err()
        {
            tracing::error!("a shard takes no requests");
        }
    }

    /// From now on nobody comes in.
    pub(crate) fn begin_draining(&self) {
        self.directory().begin_closing();
        self.phase.send_replace(Phase::Draining);
    }

    /// Everybody is told in their rooms that the server ends; those streams then end.
    pub(crate) async fn send_everybody_away(&self) {
        self.phase.send_replace(Phase::Leaving);
        self.tickets.forget_all();
        let rooms = self.directory().send_everybody_away();
        for (key, room, peers) in rooms {
            self.remove(&key, Some((room, peers)), LeaveReason::ServerClosing)
                .await;
        }
    }

    /// Everybody is disconnected. The end of a main stream is that of its rooms' streams as well, which would cut off
    /// what was told there: first come the rooms.
    pub(crate) fn begin_closing(&self) {
        self.phase.send_replace(Phase::Closing);
    }

    /// Native clients that connect from now on are shown another certificate.
    pub(crate) async fn replace_quic_tls(&self, tls: &QuicTls) {
        for shard in &self.shards {
            if shard
                .submit(Request::ReplaceQuicTls(tls.clone()))
                .await
                .is_err()
            {
                tracing::error!("a shard takes no requests");
            }
        }
    }

    /// Ends the threads.
    pub(crate) async fn stop_shards(&self) {
        for shard in &self.shards {
            let _ = shard.submit(Request::Stop).await;
        }
    }

    /// The rooms as the gateway is told of them.
    pub(crate) fn reported_rooms(&self) -> Vec<ReportedRoom> {
        let summaries = self.directory().summaries(Instant::now());
        let reported = summaries.into_iter().map(|room| ReportedRoom {
            id: (room.key.namespace, room.key.name).into(),
            customer: room.customer.to_string(),
            age: room.age.into(),
            peers: room.peers,
        });
        reported.collect()
    }
}
