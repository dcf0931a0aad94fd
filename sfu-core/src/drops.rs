//! Why a voice packet was not forwarded. A dropped packet is not an error: it has a reason, and reasons are counted.

/// Why a packet went nowhere, or not to one of its receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// It is no voice datagram.
    Malformed,
    /// It is larger than [`crate::limits::DATAGRAM_BYTES_MAX`].
    TooLarge,
    /// Its sender is in no room.
    NoRoom,
    /// Its media is not one of the sender's.
    ForeignMedia,
    /// Its media has not been started.
    MediaStopped,
    /// It came before.
    Replayed,
    /// Newer packets of its media came long ago.
    Late,
    /// Its sender is muted.
    Muted,
    /// The media sends more than it may.
    MediaRate,
    /// It waited too long on its way through the server.
    Stale,
    /// The receiver hears as many nearer streams as it may.
    StreamLimit,
    /// The server is overloaded, and the receiver hears as many nearer streams as it can be given.
    Shed,
    /// The receiver takes packets more slowly than they come.
    SlowReceiver,
    /// The receiver has no channel for voice yet, or no longer.
    NoChannel,
    /// The hand-over to another thread was full.
    QueueFull,
    /// The socket did not take it.
    SocketFull,
    /// It is from an address that no client has.
    UnknownAddress,
    /// It is no packet that a client of this socket sends.
    UnknownPacket,
    /// The connection did not take it: a wrong key, a wrong order, garbage.
    Rejected,
}

impl DropReason {
    /// All of them, by their numbers.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::TooLarge,
        Self::NoRoom,
        Self::ForeignMedia,
        Self::MediaStopped,
        Self::Replayed,
        Self::Late,
        Self::Muted,
        Self::MediaRate,
        Self::Stale,
        Self::StreamLimit,
        Self::Shed,
        Self::SlowReceiver,
        Self::NoChannel,
        Self::QueueFull,
        Self::SocketFull,
        Self::UnknownAddress,
        Self::UnknownPacket,
        Self::Rejected,
    ];

    /// Its name in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::NoRoom => "no_room",
            Self::ForeignMedia => "foreign_media",
            Self::MediaStopped => "media_stopped",
            Self::Replayed => "replayed",
            Self::Late => "late",
            Self::Muted => "muted",
            Self::MediaRate => "media_rate",
            Self::Stale => "stale",
            Self::StreamLimit => "stream_limit",
            Self::Shed => "shed",
            Self::SlowReceiver => "slow_receiver",
            Self::NoChannel => "no_channel",
            Self::QueueFull => "queue_full",
            Self::SocketFull => "socket_full",
            Self::UnknownAddress => "unknown_address",
            Self::UnknownPacket => "unknown_packet",
            Self::Rejected => "rejected",
        }
    }

    /// Its number: a place in an array of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        for (at, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), at, "{}", reason.label());
        }
    }
}
