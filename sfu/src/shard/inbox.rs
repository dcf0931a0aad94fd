//! What a shard is asked from outside: requests of the signalling and packets of other shards, each in a queue with a
//! limit.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};
use sfu_core::{
    Command, Directed, Directive, Join, LeaveReason, MediaId, PeerId, RoomInfo, RoomNumber,
};
use tokio::sync::oneshot;

pub(crate) use super::demux::SHARDS_MAX;
use super::{ClientId, ConnectionId, Offer, Outlet, QuicTls, ShardNumber, voice::VoicePacket};
use crate::metrics::CustomerCounters;

/// Requests that may wait. When it is full the caller waits, and after [`REQUEST_WAIT_MAX`] its call fails.
const REQUESTS_MAX: usize = 4_096;

/// Packets of other threads that may wait: 40 ms of a hundred talkers. When it is full the newest is dropped.
const PACKETS_MAX: usize = 2_048;

/// How long a caller waits for a place. A shard that is late by this much is not coming back.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(5);

/// Between two attempts of a caller that waits.
const REQUEST_RETRY: Duration = Duration::from_millis(2);

/// What the signalling asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// A client has negotiated its session.
    Connect(Box<Offer>),
    /// The client on a connection has shown its token.
    Bind {
        connection: ConnectionId,
        client: ClientId,
    },
    /// A task has written to a stream, has room for more of it, or has let go of it.
    LookAtStream {
        connection: ConnectionId,
        stream: u64,
    },
    /// New connections are made with this from now on.
    ReplaceQuicTls(QuicTls),
    /// A client is gone; its peers have left before.
    Disconnect(ClientId),
    /// Voice of these medias, when this client sends it, belongs to that peer.
    Attach {
        client: ClientId,
        medias: Vec<MediaId>,
        place: Place,
    },
    /// It no longer does.
    Detach { client: ClientId, place: Place },
    /// A peer comes into a room of this shard.
    Join(Box<JoinRequest>),
    /// A peer stays without a stream until another one comes. What has an older turn is not minded any more, here and in
    /// [`Self::Resume`].
    Lose { place: Place, let_go: LetGo },
    /// Another stream serves a peer.
    Resume(Box<ResumeRequest>),
    /// A peer asks for something, and is to be answered.
    Command {
        place: Place,
        /// Names the call in its answer.
        call: u64,
        command: Command,
        /// When the call came.
        since: Instant,
    },
    /// A peer leaves.
    Leave { room: RoomNumber, peer: PeerId },
    /// Peers are made to leave.
    Remove {
        room: RoomNumber,
        peers: Vec<PeerId>,
        reason: LeaveReason,
    },
    /// The room's user data is replaced.
    UpdateRoom { room: RoomNumber, user_data: Bytes },
    /// Bytes for peers of a room, from the server.
    SendMessage {
        room: RoomNumber,
        peers: Vec<PeerId>,
        message: Bytes,
    },
    /// Users of a room are somewhere else, or do not hear each other.
    Direct(Box<DirectRequest>),
    /// A room that was kept without peers ends.
    End(RoomNumber),
    /// The thread ends.
    Stop,
}

/// Where a peer is, and who speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shard: ShardNumber,
    pub(crate) room: RoomNumber,
    pub(crate) peer: PeerId,
    pub(crate) turn: Turn,
}

/// Streams serve a peer one after another, and between them none does: each of these is a turn, and the newest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn(u64);

impl Turn {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Dropped when a lost peer is out of its room, or has come back.
pub(crate) type LetGo = oneshot::Sender<()>;

/// A peer on its way into a room.
#[derive(Debug)]
pub(crate) struct JoinRequest {
    pub(crate) client: ClientId,
    /// Where the client's session is.
    pub(crate) session_shard: ShardNumber,
    pub(crate) room: RoomNumber,
    pub(crate) info: RoomInfo,
    pub(crate) join: Join,
    pub(crate) outlet: Outlet,
    pub(crate) customer: Arc<CustomerCounters>,
}

/// A stream for a peer that is in a room.
#[derive(Debug)]
pub(crate) struct ResumeRequest {
    pub(crate) client: ClientId,
    /// Where the client's session is.
    pub(crate) session_shard: ShardNumber,
    pub(crate) place: Place,
    pub(crate) outlet: Outlet,
}

/// What is said of a room's users.
#[derive(Debug)]
pub(crate) struct DirectRequest {
    pub(crate) room: RoomNumber,
    /// Of a room that is kept without peers, and begins if it has not.
    pub(crate) kept: Option<(Arc<CustomerCounters>, RoomInfo)>,
    pub(crate) directive: Directive,
    /// Told when it is done; what is said of a room that is not there is done at once.
    pub(crate) done: Option<oneshot::Sender<Directed>>,
}

/// A packet from another thread.
#[derive(Debug)]
pub(crate) enum Handed {
    /// From the socket of another shard: the kernel chose the wrong one.
    Raw {
        from: ShardNumber,
        source: std::net::SocketAddr,
        bytes: Bytes,
        arrived: Instant,
    },
    /// From the QUIC socket of another shard: the connection is one of this shard's.
    RawQuic {
        source: std::net::SocketAddr,
        bytes: Bytes,
        arrived: Instant,
    },
    /// A client at this address is that shard's: its packets are to be handed over.
    Owned {
        source: std::net::SocketAddr,
        shard: ShardNumber,
    },
    /// Voice of a peer in a room of this shard.
    Voice {
        place: Place,
        media: MediaId,
        bytes: Bytes,
        arrived: Instant,
    },
    /// Voice for a client whose session is on this shard.
    Deliver {
        client: ClientId,
        voice: VoicePacket,
        arrived: Instant,
    },
}

/// The queues of one shard.
#[derive(Debug)]
pub(crate) struct Inbox {
    requests: ArrayQueue<Request>,
    packets: ArrayQueue<Handed>,
    wake: EventFd,
    /// Set from the first submission until the shard looks, so that a burst costs one system call.
    is_woken: AtomicBool,
}

/// The shard did not make room in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is overloaded")]
pub(crate) struct Overloaded;

impl Inbox {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            requests: ArrayQueue::new(REQUESTS_MAX),
            packets: ArrayQueue::new(PACKETS_MAX),
            wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
            is_woken: AtomicBool::new(false),
        })
    }

    /// Hands a request over, and waits for a place if there is none.
    ///
    /// # Errors
    /// [`Overloaded`] after [`REQUEST_WAIT_MAX`].
    pub(crate) async fn submit(&self, mut request: Request) -> Result<(), Overloaded> {
        let began = tokio::time::Instant::now();
        while let Err(refused) = self.requests.push(request) {
            if began.elapsed() > REQUEST_WAIT_MAX {
                return Err(Overloaded);
            }
            request = refused;
            tokio::time::sleep(REQUEST_RETRY).await;
        }
        self.wake();
        Ok(())
    }

    /// Hands a request over without waiting; when there is no place, a task waits for one.
    pub(super) fn post(self: &Arc<Self>, request: Request) {
        if let Err(request) = self.requests.push(request) {
            let inbox = Arc::clone(self);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    if inbox.submit(request).await.is_err() {
                        tracing::error!("a shard takes no requests; a stream is not looked at");
                    }
                });
            }
            return;
        }
        self.wake();
    }

    /// Hands a packet over if there is a place.
    pub(super) fn hand(&self, packet: Handed) -> bool {
        let is_taken = self.packets.push(packet).is_ok();
        self.wake();
        is_taken
    }

    fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            // A full counter means that the shard has been woken.
            let _ = self.wake.write(1);
        }
    }

    /// The shard is about to look into both queues.
    pub(super) fn look(&self) {
        if self.is_woken.swap(false, Ordering::AcqRel) {
            let _ = self.wake.read();
        }
    }

    /// Something was left: the next sleep is none.
    pub(super) fn look_again(&self) {
        self.wake();
    }

    pub(super) fn request(&self) -> Option<Request> {
        self.requests.pop()
    }

    pub(super) fn packet(&self) -> Option<Handed> {
        self.packets.pop()
    }

    /// Requests and packets that wait.
    pub(super) fn depth(&self) -> usize {
        self.requests.len() + self.packets.len()
    }

    /// Readable when there may be something in it.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_waits_for_a_place_and_not_for_ever() {
        let inbox = Inbox::new().unwrap();
        for client in 0..REQUESTS_MAX as u64 {
            inbox
                .submit(Request::Disconnect(ClientId(client)))
                .await
                .unwrap();
        }
        let late = inbox.submit(Request::Stop);
        let made_room = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(matches!(
                inbox.request(),
                Some(Request::Disconnect(ClientId(0)))
            ));
        };
        let (result, ()) = tokio::join!(late, made_room);
        assert_eq!(result, Ok(()));
        assert_eq!(inbox.submit(Request::Stop).await, Err(Overloaded));
    }

    #[test]
    fn packets_beyond_the_limit_are_not_taken() {
        let inbox = Inbox::new().unwrap();
        let packet = || Handed::Deliver {
            client: ClientId(1),
            voice: VoicePacket::new(&[]),
            arrived: Instant::now(),
        };
        let taken = (0..PACKETS_MAX + 10)
            .filter(|_| inbox.hand(packet()))
            .count();
        assert_eq!((taken, inbox.depth()), (PACKETS_MAX, PACKETS_MAX));
    }
}
