//! The stream of one room a client is in: the server speaks first, then commands go in, and answers and events come out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sfu_core::{
    Command, LeaveReason,
    wire::rpc::{FrameError, Reply, Request, answer},
};
use tokio::{sync::watch, time::timeout};

use super::{
    client::Presence,
    close::Close,
    socket::Socket,
    stream::{Incoming, Stream},
};
use crate::{
    control::{Control, Phase, Ticket},
    metrics::CallOutcome,
    shard::{self, Inbox, JoinRequest, Outlets, Overloaded, Place},
};

/// How long a shard may take to let go of a peer; one that takes longer has stopped.
const LEAVE_TIME: Duration = Duration::from_secs(30);

/// Serves a room's stream to its end.
pub(super) async fn serve(control: Arc<Control>, socket: Socket, ticket: Ticket) {
    let (outlet, outlets) = shard::outlet();
    let place = Place {
        shard: control.shard_of(&ticket.key),
        room: ticket.room,
        peer: ticket.seat.peer,
    };
    let settings = match &socket {
        Socket::Web(_) => control.web,
        Socket::Quic(_) => control.quic,
    };
    let mut room = RoomStream {
        stream: Stream::new(socket, settings),
        outlets,
        place,
        control,
    };
    let client = Arc::clone(&ticket.membership.client);
    tracing::debug!(client = client.seat.id.0, peer = %place.peer, shard = place.shard.0, "a peer comes in");
    client.has_joined();
    let seat = ticket.seat;
    let entered = room
        .enter(JoinRequest {
            client: client.seat.id,
            session_shard: client.seat.shard,
            room: ticket.room,
            customer: room
                .control
                .metrics
                .customer(&ticket.info.customer, Instant::now()),
            info: ticket.info,
            join: ticket.join,
            outlet,
        })
        .await;
    let close = match entered {
        Ok(()) => room.run(&client).await,
        Err(Overloaded) => Some(Close::Overloaded),
    };
    room.leave(&client).await;
    tracing::debug!(peer = %place.peer, ?close, "a peer has left");
    // Only now: until the shard let go of the peer, its medias were in use.
    drop(seat);
    drop(ticket.membership);
    if let Some(close) = close {
        room.control.metrics.closed(close.label());
        room.stream.close(close).await;
    }
}

async fn over(presence: &mut watch::Receiver<Presence>) {
    let _ = presence.wait_for(|presence| presence.is_over).await;
}

struct RoomStream {
    stream: Stream,
    outlets: Outlets,
    place: Place,
    control: Arc<Control>,
}

impl RoomStream {
    fn shard(&self) -> &Inbox {
        self.control.shard(self.place.shard)
    }

    async fn enter(&mut self, join: JoinRequest) -> Result<(), Overloaded> {
        let attach = shard::Request::Attach {
            client: join.client,
            medias: join.join.media_ids.clone(),
            place: self.place,
        };
        self.control
            .shard(join.session_shard)
            .submit(attach)
            .await?;
        self.shard()
            .submit(shard::Request::Join(Box::new(join)))
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

    /// Until the client ends it (`None`), the room does, or the server has to.
    async fn run(&mut self, client: &super::Client) -> Option<Close> {
        let mut presence = client.presence();
        let mut phase = self.control.phase();
        loop {
            tokio::select! {
                incoming = self.stream.next() => {
                    let (frame, since) = match incoming {
                        Incoming::Frame(frame, since) => (frame, since),
                        Incoming::Left | Incoming::Lost => return None,
                        Incoming::Close(close) => return Some(close),
                    };
                    if let Err(close) = self.handle(&frame, since).await {
                        return Some(close);
                    }
                }
                frame = self.outlets.frame() => {
                    let Some(frame) = frame else {
                        let is_closing = *phase.borrow_and_update() >= Phase::Leaving;
                        return Some(if is_closing { Close::ServerClosing } else { Close::Left });
                    };
                    let outlets = &mut self.outlets;
                    if let Err(close) = self.stream.send_all(frame, || outlets.waiting_frame()).await {
                        return Some(close);
                    }
                }
                () = over(&mut presence) => return Some(Close::Left),
            }
        }
    }

    /// Hands a command over to the shard, which answers it; what cannot be handed over is answered here.
    async fn handle(&mut self, frame: &Bytes, since: Instant) -> Result<(), Close> {
        let (call, problem) = match Request::parse(frame) {
            Ok(request) => match Command::parse(&request) {
                Ok(command) => {
                    let request = shard::Request::Command {
                        room: self.place.room,
                        peer: self.place.peer,
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

    /// Takes the peer out of its room, and waits until the shard has let go of it.
    async fn leave(&mut self, client: &super::Client) {
        let leave = || shard::Request::Leave {
            room: self.place.room,
            peer: self.place.peer,
        };
        while self.shard().submit(leave()).await.is_err() {
            tracing::error!("a shard takes no requests; a peer cannot leave");
        }
        let detach = || shard::Request::Detach {
            client: client.seat.id,
            place: self.place,
        };
        while self
            .control
            .shard(client.seat.shard)
            .submit(detach())
            .await
            .is_err()
        {
            tracing::error!("a shard takes no requests; a peer cannot leave");
        }
        let let_go = async { while self.outlets.frame().await.is_some() {} };
        if timeout(LEAVE_TIME, let_go).await.is_err() {
            tracing::error!("a shard does not let go of a peer");
        }
    }
}
