//! A client's main stream: who it is, its voice connection, and the rooms it wants to enter.

use std::{
    iter,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use sfu_core::{
    Join, MainCommand, Position, RoomInfo, RoomKey,
    wire::rpc::{FrameError, Reply, Request, answer},
};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::timeout_at,
};

use super::{
    Client,
    client::Parting,
    close::{Close, End},
    socket::Socket,
    stream::{Incoming, Stream, turn},
};
use crate::{
    auth::Identity,
    control::{Control, Entry, Newcomer, PeerSeat, Phase, ResumeError, ResumeKey, Stay, Ticket},
    metrics::CallOutcome,
    shard::{self, ConnectionId, Place, ShardNumber, Turn},
};

/// How long a stream may take to say who it is: a client does it at once.
const AUTHENTICATION_TIME: Duration = Duration::from_secs(10);

/// What a call comes to.
enum Answer {
    Rooms(Vec<String>),
    Text(&'static str, String),
    /// Where a peer's stream is, and the key for another one.
    Stream(String, Option<ResumeKey>),
    Refused(String),
    /// Nobody is to blame but the server.
    Failed(String),
}

/// Serves a main stream to its end.
pub(super) async fn serve(control: Arc<Control>, socket: Socket, stranger: OwnedSemaphorePermit) {
    let settings = match &socket {
        Socket::Web(_) => control.web,
        Socket::Quic(_) => control.quic,
    };
    let mut main = MainStream {
        stream: Stream::new(socket, settings),
        control,
        client: None,
    };
    let End { parting, close } = main.run(stranger).await;
    if let Some(client) = &main.client {
        client.part(parting);
        main.control.tickets.forget(client.seat.id);
        let shard = main.control.shard(client.seat.shard);
        let disconnect = || shard::Request::Disconnect(client.seat.id);
        while shard.submit(disconnect()).await.is_err() {
            tracing::error!("a shard takes no requests; a client cannot be disconnected");
        }
    }
    if let Some(close) = close {
        main.control.metrics.closed(close.label());
        main.stream.close(close).await;
    }
}

/// When everybody has to go.
pub(super) async fn closing(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
}

struct MainStream {
    stream: Stream,
    control: Arc<Control>,
    client: Option<Arc<Client>>,
}

impl MainStream {
    /// Until the client ends it or the server has to.
    async fn run(&mut self, stranger: OwnedSemaphorePermit) -> End {
        let deadline = tokio::time::Instant::now() + AUTHENTICATION_TIME;
        let client = loop {
            if let Some(client) = &self.client {
                break Arc::clone(client);
            }
            let Ok(incoming) = timeout_at(deadline, self.stream.next()).await else {
                return Close::NotAuthenticated.into();
            };
            if let Err(end) = self.handle(incoming).await {
                return end;
            }
        };
        drop(stranger);
        let mut phase = self.control.phase();
        let mut presence = client.presence();
        let mut idle_since = None;
        loop {
            // Since its last room, not since its last call: whoever goes on calling is in no room either.
            let is_idle = {
                let presence = presence.borrow_and_update();
                presence.has_joined && presence.rooms.is_empty()
            };
            idle_since = is_idle.then(|| idle_since.unwrap_or_else(Instant::now));
            let idle_end = idle_since.map(|since| since + self.stream.settings().no_peers_timeout);
            tokio::select! {
                incoming = self.stream.next() => {
                    if let Err(end) = self.handle(incoming).await {
                        return end;
                    }
                }
                _ = presence.changed() => {}
                () = turn(idle_end) => return Close::Idle.into(),
                () = closing(&mut phase) => return Close::ServerClosing.into(),
            }
        }
    }

    /// Does what a frame asks for, and answers it.
    async fn handle(&mut self, incoming: Incoming) -> Result<(), End> {
        let (frame, since) = match incoming {
            Incoming::Frame(frame, since) => (frame, since),
            Incoming::Left => return Err(End::of_client(Parting::Left)),
            Incoming::Lost => return Err(End::of_client(Parting::Lost)),
            Incoming::Close(close) => return Err(close.into()),
        };
        let (id, method, result) = match Request::parse(&frame) {
            Ok(request) => match MainCommand::parse(&request) {
                Ok(command) => (request.id, command.method(), self.execute(command).await),
                Err(error) => (request.id, "unknown", Answer::Refused(error.to_string())),
            },
            Err(FrameError::Request { id, problem }) => {
                (id, "unknown", Answer::Refused(problem.to_owned()))
            }
            Err(FrameError::Garbage | FrameError::NoRequest) => {
                return Err(Close::Garbage.into());
            }
        };
        let (frame, outcome) = match &result {
            Answer::Rooms(rooms) => (
                answer(id, &Reply::Texts("room_ids", rooms)),
                CallOutcome::Success,
            ),
            Answer::Text(name, text) => {
                (answer(id, &Reply::Text(name, text)), CallOutcome::Success)
            }
            Answer::Stream(name, resume_key) => {
                let key = resume_key.as_ref().map(|key| ("resume_key", key.reveal()));
                let members: Vec<_> = iter::once(("stream_id", name.as_str()))
                    .chain(key)
                    .collect();
                (answer(id, &Reply::Members(&members)), CallOutcome::Success)
            }
            Answer::Failed(reason) => (answer(id, &Reply::Error(reason)), CallOutcome::Failure),
            Answer::Refused(reason) => {
                if self.stream.settings().log_rejected {
                    tracing::info!(method, "refused: {reason}");
                }
                (answer(id, &Reply::Error(reason)), CallOutcome::Rejected)
            }
        };
        self.control.metrics.call(method, outcome);
        let took = since.elapsed();
        if self
            .stream
            .settings()
            .hanging_call
            .is_some_and(|limit| took > limit)
        {
            tracing::warn!(method, took_ms = took.as_millis(), "a call took long");
        }
        Ok(self.stream.send(frame).await?)
    }

    async fn execute(&mut self, command: MainCommand) -> Answer {
        let result = match (command, self.client.clone()) {
            (MainCommand::Authenticate { token }, None) => self.authenticate(&token).await,
            (MainCommand::Authenticate { .. }, Some(_)) => Err("already authenticated".to_owned()),
            (_, None) => Err("not authenticated".to_owned()),
            (MainCommand::SetupWebRtc { sdp }, Some(client)) => self.set_up(&client, &sdp).await,
            (
                MainCommand::JoinRoom {
                    room_id,
                    user_data,
                    position,
                    resumable,
                },
                Some(client),
            ) => self.join(&client, &room_id, user_data, position, resumable),
            (
                MainCommand::ResumeRoom {
                    room_id,
                    resume_key,
                },
                Some(client),
            ) => self.resume(&client, &room_id, resume_key).await,
        };
        result.unwrap_or_else(Answer::Refused)
    }

    async fn authenticate(&mut self, token: &str) -> Result<Answer, String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let identity = self
            .control
            .authenticator
            .identify(now.unwrap_or_default(), token);
        let identity = identity.map_err(|error| error.to_string())?;
        let seat = self
            .control
            .admit_client(&identity, self.connection().map(|(shard, _)| shard))
            .map_err(|refusal| refusal.to_string())?;
        if let Some((shard, connection)) = self.connection() {
            let client = seat.id;
            let bind = shard::Request::Bind { connection, client };
            let bound = self.control.shard(shard).submit(bind).await;
            bound.map_err(|error| error.to_string())?;
        }
        let rooms = identity.rooms.clone();
        tracing::debug!(
            client = seat.id.0,
            rooms = rooms.len(),
            "a client has shown its token"
        );
        self.client = Some(Arc::new(Client::new(seat, identity)));
        Ok(Answer::Rooms(rooms))
    }

    /// The connection that carries this stream and the voice, and its shard.
    fn connection(&self) -> Option<(ShardNumber, ConnectionId)> {
        match self.stream.socket() {
            Socket::Web(_) => None,
            Socket::Quic(pipe) => Some((pipe.shard(), pipe.connection())),
        }
    }

    async fn set_up(&mut self, client: &Client, sdp: &str) -> Result<Answer, String> {
        if self.connection().is_some() {
            return Err("voice goes over this connection: there is nothing to set up".to_owned());
        }
        let seat = &client.seat;
        let accepted = self
            .control
            .offers
            .accept(Instant::now(), seat.shard, seat.id, sdp);
        let (offer, answer) = accepted.map_err(|error| error.to_string())?;
        tracing::debug!(
            client = seat.id.0,
            shard = seat.shard.0,
            "a client sets its voice up"
        );
        let connected = self
            .control
            .shard(seat.shard)
            .submit(shard::Request::Connect(offer))
            .await;
        Ok(match connected {
            Ok(()) => Answer::Text("sdp", answer),
            Err(error) => Answer::Failed(error.to_string()),
        })
    }

    fn join(
        &self,
        client: &Arc<Client>,
        name: &str,
        user_data: Bytes,
        position: Position,
        resumable: bool,
    ) -> Result<Answer, String> {
        let identity = &client.identity;
        let key = opened_room(identity, name)?;
        let membership = client.enter(name, false).ok_or("already in this room")?;
        let Some(resume_key) = self.control.resume_key(resumable) else {
            return Ok(no_randomness());
        };
        let admitted = self.control.directory().admit_peer(
            Instant::now(),
            &key,
            &identity.user_id,
            &identity.customer,
        );
        let admitted = admitted.map_err(|refusal| refusal.to_string())?;
        let stay = Stay {
            seat: PeerSeat::new(
                Arc::clone(&self.control),
                admitted.peer,
                client.seat.transport,
            ),
            place: Place {
                shard: self.control.shard_of(&key),
                room: admitted.room,
                peer: admitted.peer,
                turn: Turn::default(),
            },
            room: key,
            user_id: identity.user_id.clone(),
            medias: admitted.media_ids.clone(),
        };
        let newcomer = Newcomer {
            stay: Arc::new(stay),
            info: RoomInfo {
                name: Arc::from(name),
                customer: admitted.customer,
                user_data: Bytes::new(),
            },
            join: Join {
                peer: admitted.peer,
                user_id: Arc::from(identity.user_id.as_str()),
                user_data,
                position,
                media_ids: admitted.media_ids,
            },
            resume_key: resume_key.clone(),
        };
        let entry = Entry::Join(Box::new(newcomer));
        Ok(
            match self.control.tickets.issue(Ticket { membership, entry }) {
                Some(stream) => Answer::Stream(stream, resume_key),
                None => no_randomness(),
            },
        )
    }

    async fn resume(
        &mut self,
        client: &Arc<Client>,
        name: &str,
        key: String,
    ) -> Result<Answer, String> {
        let room = opened_room(&client.identity, name)?;
        match self
            .control
            .resume(client, &room, &ResumeKey::new(key))
            .await
        {
            Ok(resumed) => Ok(Answer::Stream(resumed.stream, Some(resumed.key))),
            Err(error @ ResumeError::NoRandomness) => Ok(Answer::Failed(error.to_string())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The room of this name, if the token opens it.
fn opened_room(identity: &Identity, name: &str) -> Result<RoomKey, &'static str> {
    if !identity.rooms.iter().any(|room| room == name) {
        return Err("the token does not open this room");
    }
    Ok(RoomKey {
        namespace: identity.namespace.clone(),
        name: name.to_owned(),
    })
}

fn no_randomness() -> Answer {
    Answer::Failed(ResumeError::NoRandomness.to_string())
}
