//! What a peer is told.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    id::{MediaId, PeerId},
    room::Slot,
};

/// An event and the peers that are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Whom to tell, each once.
    pub to: Vec<Slot>,
    /// What.
    pub event: Event,
}

/// What happened in a room, as one peer sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The peer is in; always the first event of the stream that serves it.
    Joined {
        /// Its own id.
        own: PeerId,
        /// The medias it may start.
        media_ids: Vec<MediaId>,
        /// The room.
        room: RoomInfo,
        /// The others it can see, never itself: the web client hangs if it finds itself.
        peers: Vec<PeerInfo>,
    },
    /// A peer came, or came near.
    PeerJoined(PeerInfo),
    /// A peer left, or is too far away.
    PeerLeft(PeerId),
    /// The room's user data changed.
    RoomUserDataChanged(Bytes),
    /// The peer is out, or goes on elsewhere; always the last event of its stream.
    Left(LeaveReason),
    /// A peer begins to talk.
    MediaStarted {
        /// Who.
        peer: PeerId,
        /// With what.
        media: MediaInfo,
    },
    /// A peer ends talking.
    MediaStopped {
        /// Who.
        peer: PeerId,
        /// With what.
        media: MediaId,
    },
    /// A peer's user data changed.
    PeerUserDataChanged {
        /// Whose.
        peer: PeerId,
        /// The data.
        user_data: Bytes,
    },
    /// Somebody sent bytes.
    MessageReceived {
        /// Who; not always a peer that the receiver can see.
        sender: PeerId,
        /// The bytes.
        message: Bytes,
    },
}

/// A room as its peers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomInfo {
    /// Its name, without namespace.
    pub name: Arc<str>,
    /// Whose it is.
    pub customer: Arc<str>,
    /// Its user data.
    pub user_data: Bytes,
}

/// A peer as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its id.
    pub id: PeerId,
    /// The user behind it; several peers may be one user.
    pub user_id: Arc<str>,
    /// Its user data.
    pub user_data: Bytes,
    /// What it talks with now.
    pub medias: Vec<MediaInfo>,
}

/// A running media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaInfo {
    /// Its id.
    pub id: MediaId,
    /// An encoded map.
    pub properties: Bytes,
    /// Whether who is told has paused it. Only whoever comes back can have: others are told of a media for the first time.
    pub paused: bool,
}

/// Why a stream's peer is out without having asked for it. The words are those of the ODIN server, which does not know
/// the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaveReason {
    /// The room was closed.
    RoomClosing,
    /// The server ends.
    ServerClosing,
    /// The user was banned.
    PeerKicked,
    /// Another stream serves the peer from now on.
    Resumed,
}

impl LeaveReason {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::RoomClosing => "room_closing",
            Self::ServerClosing => "server_closing",
            Self::PeerKicked => "peer_kicked",
            Self::Resumed => "resumed",
        }
    }
}
