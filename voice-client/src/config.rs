//! What a client is told once: whom it trusts, how its bytes travel, and what it keeps.

use std::time::Duration;

use crate::trust::Trust;

/// Events of a room that wait for their reader, unless [`Config::events_max`] says otherwise. One frame of the server may
/// tell of some thousand peers at once.
pub const EVENTS_MAX: usize = 4_096;

/// Voice packets that were heard and not yet taken, unless [`Config::heard_max`] says otherwise: 20 ms each, so five
/// seconds of four talkers.
pub const HEARD_MAX: usize = 1_024;

/// How calls, events and voice travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One QUIC connection: streams for calls and events, datagrams for voice. It survives a change of the address.
    #[default]
    WebTransport,
    /// A WebSocket for each stream, and a WebRTC data channel for voice; as web clients do.
    WebSocket,
}

/// How a client comes back after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Wait before the first attempt; each further wait is twice as long. Half of every wait is chance, so that those who
    /// were lost together do not come back at the same moment.
    pub delay_min: Duration,
    /// Longest wait between two attempts.
    pub delay_max: Duration,
    /// From the loss on, attempts are made for so long; then rooms are left. Zero: no attempt is made.
    pub time_max: Duration,
}

impl Default for Reconnect {
    /// 100 ms, up to 5 s, for a minute: several attempts fall into the time that a server keeps the place of a lost peer.
    fn default() -> Self {
        Self {
            delay_min: Duration::from_millis(100),
            delay_max: Duration::from_secs(5),
            time_max: Duration::from_secs(60),
        }
    }
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose certificates are accepted, of gateways as of voice servers.
    pub trust: Trust,
    /// How bytes travel.
    pub transport: Transport,
    /// How the client comes back.
    pub reconnect: Reconnect,
    /// Events of one room that may wait for their reader. They are never dropped: a room whose events are not read is left,
    /// with [`LeaveReason::EventsNotRead`](crate::LeaveReason::EventsNotRead).
    pub events_max: usize,
    /// Packets that may wait to be taken from [`Voice`](crate::Voice). Beyond that the oldest is dropped and counted.
    pub heard_max: usize,
}

impl Config {
    /// WebTransport, and everything else as it usually is.
    pub fn new(trust: Trust) -> Self {
        Self {
            trust,
            transport: Transport::default(),
            reconnect: Reconnect::default(),
            events_max: EVENTS_MAX,
            heard_max: HEARD_MAX,
        }
    }
}
