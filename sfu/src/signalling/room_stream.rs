//! The stream of one room a client is in: the server speaks first, then commands go in, and answers and events come out.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use sfu_core::{
    Command, Join, LeaveReason, RoomInfo,
    wire::rpc::{FrameError, Reply, Request, answer},
};
use tokio::{sync::watch, time::timeout};

use super::{
    Client,
    client::{Parting, Presence},
    close::{Close, End},
    socket::Socket,
    stream::{Incoming, Stream},
};
use crate::{
    control::{Control, Entry, LET_GO_TIME, Newcomer, Phase, ResumeKey, Stay, Ticket},
    metrics::CallOutcome,
    shard::{self, Inbox, JoinRequest, Outlet, Outlets, Overloaded, Place, ResumeRequest, Turn},
};

/// Serves a room's stream to its end.
pub(super) async fn serve(control: Arc<Control>, socket: Socket, ticket: Ticket) {
    let Ticket { membership, entry } = ticket;
    let client = Arc::clone(&membership.client);
    client.has_joined();
    let settings = match &socket {
        Socket::Web(_) => control.web,
        Socket::Quic(_) => control.quic,
    };
    let stream = Stream::new(socket, settings);
    let (outlet, outlets) = shard::outlet();
    let (key, stay, turn, newcomer) = match entry {
        Entry::Join(newcomer) => {
            let Newcomer {
                stay,
                info,
                join,
                resume_key,
            } = *newcomer;
            (resume_key, stay, Turn::default(), Some((info, join)))
        }
        Entry::Resume(key) => {
            let Some((stay, turn)) = control.stays.serve(&key, client.seat.id) else {
                drop(membership);
                // It had to leave meanwhile, or still another stream serves it.
                control.metrics.closed(Close::Left.label());
                return stream.close(Close::Left).await;
            };
            (Some(key), stay, turn, None)
        }
    };
    let mut room = RoomStream {
        stream,
        outlets,
        place: stay.place_in(turn),
        stay,
        key,
        client,
        control,
    };
    let peer = room.place.peer;
    tracing::debug!(client = room.client.seat.id.0, %peer, shard = room.place.shard.0, "a stream serves a peer");
    let entered = match newcomer {
        Some((info, join)) => room.enter(info, join, outlet).await,
        None => room.resume(outlet).await,
    };
    let end = match entered {
        Ok(()) => room.run().await,
        Err(Overloaded) => Close::Overloaded.into(),
    };
    room.part(end.parting).await;
    tracing::debug!(%peer, ?end, "a stream has ended");
    let RoomStream {
        stream,
        stay,
        control,
        ..
    } = room;
    // Only now: until the shard let go of the peer, its medias were in use.
    drop(stay);
    drop(membership);
    if let Some(close) = end.close {
        control.metrics.closed(close.label());
        stream.close(close).await;
    }
}

async fn over(presence: &mut watch::Receiver<Presence>) -> Parting {
    let over = presence.wait_for(|presence| presence.parting.is_some());
    let parting = over.await.ok().and_then(|presence| presence.parting);
    parting.unwrap_or(Parting::Lost)
}

struct RoomStream {
    stream: Stream,
    outlets: Outlets,
    place: Place,
    stay: Arc<Stay>,
    /// Of a peer that may come back.
    key: Option<ResumeKey>,
    client: Arc<Client>,
    control: Arc<Control>,
}

impl RoomStream {
    fn shard(&self) -> &Inbox {
        self.control.shard(self.place.shard)
    }

    /// A new peer comes in.
    async fn enter(
        &mut self,
        info: RoomInfo,
        join: Join,
        outlet: Outlet,
    ) -> Result<(), Overloaded> {
        self.attach().await?;
        let metrics = &self.control.metrics;
        let join = JoinRequest {
            client: self.client.seat.id,
            session_shard: self.client.seat.shard,
            room: self.place.room,
            customer: metrics.customer(&info.customer, Instant::now()),
            info,
            join,
            outlet,
        };
        self.shard()
            .submit(shard::Request::Join(Box::new(join)))
            .await?;
        if let Some(key) = &self.key {
            let stay = Arc::clone(&self.stay);
            self.control
                .stays
                .begin(key.clone(), stay, self.client.seat.id);
        }
        let (key, user_id) = (&self.stay.room, &self.stay.user_id);
        self.control
            .direct_newcomer(key, self.place.room, user_id)
            .await?;
        // Whoever was banned on the way in may have come in after the order to leave.
        if self.control.directory().must_leave(self.place.peer) {
            let remove = shard::Request::Remove {
                room: self.place.room,
                peers: vec![self.place.peer],
                reason: LeaveReason::PeerKicked,
            };
            self.shard().submit(remove).await?;
        }
        Ok(())
    }

    /// A peer that is in has another stream, and another session for its voice. If it has left, the stream ends.
    async fn resume(&mut self, outlet: Outlet) -> Result<(), Overloaded> {
        self.attach().await?;
        let resume = ResumeRequest {
            client: self.client.seat.id,
            session_shard: self.client.seat.shard,
            place: self.place,
            outlet,
        };
        let resume = shard::Request::Resume(Box::new(resume));
        self.shard().submit(resume).await?;
        self.stay.seat.moves_to(self.client.seat.transport);
        self.control.metrics.peer_resumed();
        Ok(())
    }

    async fn attach(&mut self) -> Result<(), Overloaded> {
        let attach = shard::Request::Attach {
            client: self.client.seat.id,
            medias: self.stay.medias.clone(),
            place: self.place,
        };
        self.control
            .shard(self.client.seat.shard)
            .submit(attach)
            .await
    }

    /// Until the client ends it, the room does, or the server has to.
    async fn run(&mut self) -> End {
        let mut presence = self.client.presence();
        let mut phase = self.control.phase();
        loop {
            tokio::select! {
                incoming = self.stream.next() => {
                    let (frame, since) = match incoming {
                        Incoming::Frame(frame, since) => (frame, since),
                        Incoming::Left => return End::of_client(Parting::Left),
                        Incoming::Lost => return End::of_client(Parting::Lost),
                        Incoming::Close(close) => return close.into(),
                    };
                    if let Err(close) = self.handle(&frame, since).await {
                        return close.into();
                    }
                }
                frame = self.outlets.frame() => {
                    let Some(frame) = frame else {
                        let is_closing = *phase.borrow_and_update() >= Phase::Leaving;
                        let close = if is_closing { Close::ServerClosing } else { Close::Left };
                        return close.into();
                    };
                    let outlets = &mut self.outlets;
                    if let Err(close) = self.stream.send_all(frame, || outlets.waiting_frame()).await {
                        return close.into();
                    }
                }
                parting = over(&mut presence) => {
                    let close = Some(Close::Left);
                    return End { parting, close };
                }
            }
        }
    }

    /// Hands a command over to the shard, which answers it; what cannot be handed over is answered here.
    async fn handle(&mut self, frame: &Bytes, since: Instant) -> Result<(), Close> {
        let (call, problem) = match Request::parse(frame) {
            Ok(request) => match Command::parse(&request) {
                Ok(command) => {
                    let request = shard::Request::Command {
                        place: self.place,
                        call: request.id,
                        command,
                        since,
                    };
                    return self
                        .shard()
                        .submit(request)
                        .await
                        .map_err(|_| Close::Overloaded);
                }
                Err(error) => (request.id, error.to_string()),
            },
            Err(FrameError::Request { id, problem }) => (id, problem.to_owned()),
            Err(FrameError::Garbage | FrameError::NoRequest) => return Err(Close::Garbage),
        };
        self.control.metrics.call("unknown", CallOutcome::Rejected);
        if self.stream.settings().log_rejected {
            tracing::info!("refused: {problem}");
        }
        self.stream
            .send(answer(call, &Reply::Error(&problem)))
            .await
    }

    /// Keeps the peer for another stream, or takes it out of its room; or leaves that to whoever serves it by now. Waits
    /// until the shard has let go of this stream.
    async fn part(&mut self, parting: Parting) {
        match (&self.key, parting) {
            (Some(key), Parting::Lost) => self.control.lose(key, &self.client).await,
            (Some(key), Parting::Left) => {
                if let Some(stay) = self.control.stays.end(key) {
                    self.control.let_leave(&stay).await;
                }
            }
            (None, _) => self.control.let_leave(&self.stay).await,
        }
        let detach = || shard::Request::Detach {
            client: self.client.seat.id,
            place: self.place,
        };
        let session_shard = self.control.shard(self.client.seat.shard);
        while session_shard.submit(detach()).await.is_err() {
            tracing::error!("a shard takes no requests; a peer cannot leave");
        }
        let let_go = async { while self.outlets.frame().await.is_some() {} };
        if timeout(LET_GO_TIME, let_go).await.is_err() {
            tracing::error!("a shard does not let go of a peer");
        }
    }
}
