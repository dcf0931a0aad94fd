//! The streams of clients: WebSockets, or streams of QUIC, that carry MessagePack-RPC. A main stream is a client, and each room it is in
//! has a stream of its own; the end of the main stream is the end of all.

mod batch;
mod client;
mod close;
mod game_server;
mod http;
mod main_stream;
mod quic;
mod room_stream;
mod socket;
mod stream;

pub(crate) use client::{Client, Farewell, Membership};
pub(crate) use http::router;
pub(crate) use quic::serve as serve_quic;
