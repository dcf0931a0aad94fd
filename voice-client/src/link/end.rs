//! How a stream ended, and what that means: the one place that knows the close codes.

use std::fmt;

use crate::event::LeaveReason;

/// The words of a server that closes a WebSocket because it heard nothing; with these, the peer is lost and not gone.
const SILENT: &str = "silent for too long";

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// Nobody said so: it broke, or fell silent.
    Lost(String),
    /// What came was no MessagePack-RPC, or too large.
    Garbage,
    /// The server closed it, with a code of RFC 6455, section 7.4.
    Closed { code: u32, reason: String },
}

/// What comes after an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The way back is open.
    Return,
    /// The server ends: only another one can be returned to.
    Move,
    /// It is over.
    Over(LeaveReason),
}

impl StreamEnd {
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Lost(_) | Self::Garbage => Verdict::Return,
            Self::Closed { code: 1001, .. } => Verdict::Move,
            // Overloaded: later it may not be.
            Self::Closed { code: 1013, .. } => Verdict::Return,
            Self::Closed { code: 1008, reason } if reason == SILENT => Verdict::Return,
            // Codes that no server sends: the connection was cut, or the library says so.
            Self::Closed {
                code: 0 | 1005 | 1006 | 1011 | 1012,
                ..
            } => Verdict::Return,
            Self::Closed { code, reason } => Verdict::Over(LeaveReason::Closed { code, reason }),
        }
    }
}

impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(text) => f.write_str(text),
            Self::Garbage => f.write_str("what came was no MessagePack-RPC"),
            Self::Closed { code, reason } => write!(f, "closed with code {code}: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_means_is_the_end() {
        let closed = |code, reason: &str| StreamEnd::Closed {
            code,
            reason: reason.to_owned(),
        };
        let over = |code, reason: &str| {
            Verdict::Over(LeaveReason::Closed {
                code,
                reason: reason.to_owned(),
            })
        };
        for (end, verdict) in [
            (StreamEnd::Lost("reset".to_owned()), Verdict::Return),
            (StreamEnd::Garbage, Verdict::Return),
            (closed(1001, "server_closing"), Verdict::Move),
            (closed(1013, "overloaded"), Verdict::Return),
            (closed(1006, ""), Verdict::Return),
            (closed(1008, SILENT), Verdict::Return),
            (closed(1008, "too many calls"), over(1008, "too many calls")),
            (closed(1000, "left"), over(1000, "left")),
            (closed(404, ""), over(404, "")),
        ] {
            assert_eq!(end.clone().verdict(), verdict, "{end}");
        }
    }
}
