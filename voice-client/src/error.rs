//! What can go wrong, one enum for each thing that an application asks for.

use crate::{entry::TokenError, event::LeaveReason, trust::TrustError};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Certificates or TLS settings are wrong.
    #[error("there is nothing to trust")]
    Trust(#[from] TrustError),
    /// No token came from the application's source.
    #[error("no token")]
    Token(#[source] TokenError),
    /// The gateway cannot be reached, or says nothing that can be understood.
    #[error("the gateway cannot be asked: {0}")]
    Gateway(String),
    /// The gateway lets nobody in with this token.
    #[error("the gateway refuses: {0}")]
    GatewayRefused(String),
    /// No connection to the voice server: the network, or its certificate.
    #[error("the voice server cannot be reached: {0}")]
    Unreachable(String),
    /// The voice server lets nobody in with this token.
    #[error("the voice server refuses: {0}")]
    Refused(String),
    /// The connection broke on the way in, or what came was no answer.
    #[error("the connection broke while it was set up: {0}")]
    Broken(String),
    /// Signalling works and voice does not: often a firewall that lets no UDP through.
    #[error("there is no way for voice: {0}")]
    Voice(String),
    /// It took too long.
    #[error("{0} took too long")]
    TimedOut(&'static str),
    /// The client was closed meanwhile.
    #[error("the client is closed")]
    Closed,
}

/// Why a room was not joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The connection was lost and is not back.
    #[error("not connected")]
    Connect(#[from] ConnectError),
    /// The server does not let the client in: its token does not open the room, the user is banned, a limit is reached.
    #[error("refused: {0}")]
    Refused(String),
    /// User data or a name above the limit, or a position that is not finite.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Why a call in a room failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server's answer.
    #[error("refused: {0}")]
    Refused(String),
    /// The connection broke before the answer: it may have been done or not.
    #[error("the connection broke before the answer")]
    Interrupted,
    /// No answer came in time, for example while the client tries to come back.
    #[error("no answer in time")]
    TimedOut,
    /// The client is not in this room any more.
    #[error("the room was left: {0}")]
    Left(LeaveReason),
    /// All of the peer's own medias are in use.
    #[error("no media is left to start")]
    NoMedia,
    /// Too large, or not finite.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Why a packet was not sent. Voice waits for nothing: an application may go on with the next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The client is on its way back.
    #[error("not connected")]
    NotConnected,
    /// The media was stopped, or its room left.
    #[error("the media is stopped")]
    Stopped,
    /// There is nothing in it.
    #[error("an empty packet")]
    Empty,
    /// The packet with its head would be above 1,400 bytes.
    #[error("too large a packet")]
    TooLarge,
}
