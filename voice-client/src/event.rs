//! What a client is told of a room.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use sfu_core::PeerId;

/// A media: one stream of voice of one peer. Two medias that one client hears at the same time never share a number, in
/// whatever rooms they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaId(u16);

impl MediaId {
    /// `None` for 0, which stands for no media.
    pub fn new(id: u16) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// The number on the wire.
    pub fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Display for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A plain value among the properties of a media.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Property {
    /// Nothing.
    Nil,
    /// Yes or no.
    Boolean(bool),
    /// Any number.
    Number(f64),
    /// Text.
    Text(String),
}

/// What a talker says of its media; 512 bytes at most. Web clients look at `kind`.
pub type Properties = BTreeMap<String, Property>;

/// A started media of another peer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RemoteMedia {
    /// Its id.
    pub id: MediaId,
    /// What its talker says of it.
    pub properties: Properties,
}

/// Another peer in a room.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// Its id.
    pub id: PeerId,
    /// The user behind it; several peers may be one user.
    pub user_id: String,
    /// Its user data.
    pub user_data: Bytes,
    /// What it talks with now.
    pub medias: Vec<RemoteMedia>,
}

/// A room as a whole.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The client's own peer id.
    pub own_id: PeerId,
    /// The room's user data.
    pub user_data: Bytes,
    /// Everybody else that the client can see.
    pub peers: Vec<Peer>,
}

/// What happened in a room.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A peer came, or came near.
    PeerJoined(Peer),
    /// A peer left, or is too far away. Its medias have ended.
    PeerLeft(PeerId),
    /// A peer replaced its user data.
    PeerUserDataChanged {
        /// Who.
        peer: PeerId,
        /// The data.
        user_data: Bytes,
    },
    /// The room's user data were replaced.
    RoomUserDataChanged(Bytes),
    /// A peer starts to talk.
    MediaStarted {
        /// Who.
        peer: PeerId,
        /// With what.
        media: RemoteMedia,
    },
    /// A peer ends talking.
    MediaStopped {
        /// Who.
        peer: PeerId,
        /// With what.
        media: MediaId,
    },
    /// Somebody sent bytes.
    MessageReceived {
        /// Who; [`PeerId::SERVER`] is the moderation, and a peer need not be one that the client can see.
        sender: PeerId,
        /// The bytes.
        message: Bytes,
    },
    /// The connection was lost; the client tries to come back. Handles stay what they are.
    Reconnecting,
    /// The client is back in its old place: others have seen nothing of the loss. What changed meanwhile is in the
    /// snapshot; messages of that time follow.
    Resumed(Snapshot),
    /// The client is back as another peer: its old place was given up, or the room lives on another server. Its medias are
    /// started anew under the same handles; pauses of others' medias are over.
    Rejoined(Snapshot),
    /// The client is out. Always the last event.
    Left(LeaveReason),
}

/// Why a client is out of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaveReason {
    /// The application wanted it.
    Asked,
    /// The room was closed.
    RoomClosing,
    /// The server ends, and no gateway names another.
    ServerClosing,
    /// The user was banned.
    PeerKicked,
    /// Somebody with the resume key took the place over.
    Resumed,
    /// The connection was lost, and the client did not come back in time.
    ConnectionLost,
    /// On the way back the server let the client in no more.
    Refused(String),
    /// The application did not read its events.
    EventsNotRead,
    /// The server closed the stream for another reason.
    Closed {
        /// A code of RFC 6455, section 7.4.
        code: u32,
        /// Its words.
        reason: String,
    },
    /// A word that is newer than this client.
    Other(String),
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("the application left"),
            Self::RoomClosing => f.write_str("the room was closed"),
            Self::ServerClosing => f.write_str("the server ends"),
            Self::PeerKicked => f.write_str("the user was banned"),
            Self::Resumed => f.write_str("the place was taken over"),
            Self::ConnectionLost => f.write_str("the connection was lost"),
            Self::Refused(text) => write!(f, "the way back was refused: {text}"),
            Self::EventsNotRead => f.write_str("events were not read"),
            Self::Closed { code, reason } => write!(f, "closed with code {code}: {reason}"),
            Self::Other(word) => write!(f, "left: {word}"),
        }
    }
}
