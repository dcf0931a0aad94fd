//! QUIC on a shard: connections of native clients, each with one WebTransport session. The protocol is in
//! `docs/webtransport.md`.
//!
//! Voice is handled where it arrives, like that of WebRTC sessions. Streams carry signalling, which is the business of
//! tasks elsewhere: a [`Pipe`] takes their frames there and back.

mod congestion;
mod connection;
mod endpoint;
mod frames;
mod http3;
mod pipe;
mod settings;
mod streams;

pub(super) use connection::QuicSession;
pub(super) use endpoint::{Accepted, QuicEndpoint, shard_of};
pub(crate) use pipe::{Arrival, Came, Ending, Pipe};
pub(crate) use settings::{QuicSettings, QuicTls};

/// The most streams that a client may have open: its session, its main stream, and rooms.
const STREAMS_MAX: u32 = 32;

/// A connection of a shard, for as long as the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);
