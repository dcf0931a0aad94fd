//! Why a stream is closed by the server, and with which code: those of WebSockets (RFC 6455, section 7.4) over any
//! transport. Web clients show neither.

use axum::extract::ws::{CloseFrame, Utf8Bytes, close_code};

use super::client::Parting;
use crate::shard::Ending;

/// How a stream ends, and why the server closes it, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) parting: Parting,
    pub(super) close: Option<Close>,
}

impl End {
    /// The client ends it, or its connection has ended.
    pub(super) fn of_client(parting: Parting) -> Self {
        let close = None;
        Self { parting, close }
    }
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        let parting = match close {
            // Not what the client wanted, and not what it is to blame for.
            Close::Broken | Close::Silent | Close::Idle => Parting::Lost,
            Close::Left
            | Close::ServerClosing
            | Close::Garbage
            | Close::NotAuthenticated
            | Close::TooManyCalls
            | Close::TooSlow
            | Close::Overloaded => Parting::Left,
        };
        let close = Some(close);
        Self { parting, close }
    }
}

/// Why the server closes a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// The peer has left its room, or was made to.
    Left,
    /// The server ends.
    ServerClosing,
    /// A frame that is no RPC.
    Garbage,
    /// The connection broke: it was cut off, or what came is no WebSocket frame or too large a one.
    Broken,
    /// No token came in time.
    NotAuthenticated,
    /// Nothing was heard for too long.
    Silent,
    /// More calls than allowed, and no end of it.
    TooManyCalls,
    /// In no room for too long.
    Idle,
    /// The client does not read.
    TooSlow,
    /// The server cannot do what it should.
    Overloaded,
}

impl Close {
    /// Its name in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::ServerClosing => "server_closing",
            Self::Garbage => "garbage",
            Self::Broken => "broken",
            Self::NotAuthenticated => "not_authenticated",
            Self::Silent => "silent",
            Self::TooManyCalls => "too_many_calls",
            Self::Idle => "idle",
            Self::TooSlow => "too_slow",
            Self::Overloaded => "overloaded",
        }
    }

    /// The close frame of a WebSocket.
    pub(super) fn frame(self) -> CloseFrame {
        let (code, reason) = self.words();
        CloseFrame {
            code,
            reason: Utf8Bytes::from_static(reason),
        }
    }

    /// The end of a stream of WebTransport.
    pub(super) fn ending(self) -> Ending {
        let (code, reason) = self.words();
        Ending {
            code,
            reason,
            is_orderly: matches!(self, Self::Left | Self::ServerClosing | Self::Idle),
        }
    }

    fn words(self) -> (u16, &'static str) {
        match self {
            Self::Left => (close_code::NORMAL, "left"),
            Self::ServerClosing => (close_code::AWAY, "server_closing"),
            Self::Garbage => (close_code::PROTOCOL, "a frame was no MessagePack-RPC"),
            Self::Broken => (close_code::PROTOCOL, "broken or too large a frame"),
            Self::NotAuthenticated => (close_code::POLICY, "not authenticated in time"),
            Self::Silent => (close_code::POLICY, "silent for too long"),
            Self::TooManyCalls => (close_code::POLICY, "too many calls"),
            Self::Idle => (close_code::NORMAL, "in no room"),
            Self::TooSlow => (close_code::POLICY, "frames were not read"),
            Self::Overloaded => (close_code::AGAIN, "overloaded"),
        }
    }
}
