//! The packet path. A shard is a plain thread that owns rooms, the sessions of its clients and a UDP socket for each
//! transport; it shares nothing but queues. There is no lock and no async here.
//!
//! A room lives on one shard, and so does a session, mostly the same one. Where they differ (a token for rooms with
//! nothing in common) packets cross once, over a queue that drops when it is full.

mod demux;
mod inbox;
mod outlet;
mod quic;
mod rooms;
mod seat;
mod session;
mod sessions;
mod socket;
mod voice;
mod webrtc;
mod window;
mod worker;

#[cfg(fuzzing)]
pub(crate) use demux::{Packet, shard_of};
pub(crate) use inbox::{
    DirectRequest, Inbox, JoinRequest, Overloaded, Place, Request, ResumeRequest, SHARDS_MAX, Turn,
};
pub(crate) use outlet::{Outlet, Outlets, outlet};
pub(crate) use quic::{Arrival, Came, ConnectionId, Ending, Pipe, QuicSettings, QuicTls};
pub(crate) use socket::bind;
pub(crate) use webrtc::{Offer, Offers};
pub(crate) use worker::{QuicSocket, Shard, ShardSettings, Sockets};

/// One client of the server. Its session lives on one shard for as long as it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientId(pub(crate) u64);

/// A number from 0; also the first character of the ICE user fragment of every session on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ShardNumber(pub(crate) u8);

impl ShardNumber {
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}
