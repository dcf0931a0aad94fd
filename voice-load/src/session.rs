//! One peer's voice connection, without a socket and without a clock: what comes in, what goes out, and when it wants to
//! be asked again.

mod data_channel;
mod floor;
mod web_transport;

use std::time::Instant;

pub(crate) use self::{
    data_channel::{DataChannel, Offers, candidate},
    floor::{Floor, hello_room, is_hello},
    web_transport::{Way, WebTransport, config as quic_config},
};

/// What a session has to say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said<'a> {
    /// A packet for the server.
    Packet(&'a [u8]),
    /// Voice of another peer.
    Voice(&'a [u8]),
    /// This peer is out of range.
    Apart(u32),
}

/// See the module.
#[derive(Debug)]
pub(crate) enum Session {
    DataChannel(Box<DataChannel>),
    WebTransport(Box<WebTransport>),
    Floor(Floor),
}

impl Session {
    /// Voice can be sent and heard.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::DataChannel(it) => it.is_open(),
            Self::WebTransport(it) => it.is_open(),
            Self::Floor(it) => it.is_open(),
        }
    }

    /// It has ended and will not come back.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::DataChannel(it) => it.has_ended(),
            Self::WebTransport(it) => it.has_ended(),
            Self::Floor(_) => false,
        }
    }

    /// Why it has ended, if it can say.
    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Self::WebTransport(it) => it.failure(),
            Self::DataChannel(_) | Self::Floor(_) => None,
        }
    }

    /// The media of the peer's room, where the session itself is the way into it.
    pub(crate) fn media(&self) -> Option<u16> {
        match self {
            Self::WebTransport(it) => it.media(),
            Self::DataChannel(_) | Self::Floor(_) => None,
        }
    }

    /// Goes there, where the session itself is the way to say so.
    pub(crate) fn move_to(&mut self, place: [f64; 3]) {
        match self {
            Self::WebTransport(it) => it.move_to(place),
            Self::DataChannel(_) | Self::Floor(_) => {}
        }
    }

    /// Says that it leaves, where that is said in the session itself.
    pub(crate) fn leave(&mut self, now: Instant) {
        match self {
            Self::WebTransport(it) => it.leave(now),
            Self::DataChannel(_) | Self::Floor(_) => {}
        }
    }

    /// Takes a packet of the server in.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        bytes: &mut [u8],
        out: &mut impl FnMut(Said<'_>),
    ) {
        match self {
            Self::DataChannel(it) => it.receive(now, bytes),
            Self::WebTransport(it) => it.receive(now, bytes, out),
            Self::Floor(it) => it.receive(bytes, out),
        }
    }

    /// Its time has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::DataChannel(it) => it.handle_timeout(now),
            Self::WebTransport(it) => it.handle_timeout(now),
            Self::Floor(_) => {}
        }
    }

    /// Sends voice; says whether the session took it.
    pub(crate) fn send(&mut self, bytes: &[u8], out: &mut impl FnMut(Said<'_>)) -> bool {
        match self {
            Self::DataChannel(it) => it.send(bytes),
            Self::WebTransport(it) => it.send(bytes),
            Self::Floor(it) => it.send(bytes, out),
        }
    }

    /// Gives what it has to say, and the time at which it wants to be asked again.
    pub(crate) fn poll(&mut self, now: Instant, out: &mut impl FnMut(Said<'_>)) -> Option<Instant> {
        match self {
            Self::DataChannel(it) => it.poll(out),
            Self::WebTransport(it) => it.poll(now, out),
            Self::Floor(it) => it.poll(now, out),
        }
    }
}
