//! Why a stream is closed by the server, and with which code: those of WebSockets (RFC 6455, section 7.4) over any
//! transport. Web clients show neither.

use axum::extract::ws::{CloseFrame, Utf8Bytes, close_code};

use crate::shard::Ending;

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
