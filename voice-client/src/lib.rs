//! Voice rooms for games: join them, talk, and hear the others, through a gateway or straight at a voice server.
//!
//! Opus packets go in and come out; encoding, decoding and mixing are the application's. Calls and events are typed. A
//! [`Client`] that loses its connection comes back by itself, into its old place if the server has kept it, and its handles
//! stay what they are.
//!
//! ```no_run
//! use voice_client::{Client, Config, Entry, Event, Join, TokenSource, Trust};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let tokens = TokenSource::from_fn(|| async {
//!     // Asks the game's back end, which signs room tokens for this player.
//!     Ok("a token".to_owned())
//! });
//! let entry = Entry::gateway("https://gateway.example.com/", tokens);
//! let config = Config::new(Trust::pem_file("authorities.pem")?);
//! let (client, mut voice) = Client::connect(entry, config).await?;
//! let (room, mut events) = client.join("lobby", Join::default()).await?;
//! let media = room.start_media().await?;
//! tokio::spawn(async move {
//!     while let Some(packet) = voice.recv().await {
//!         // To the decoder and the jitter buffer of packet.media.
//!     }
//! });
//! media.send(&[0xf8, 0xff, 0xfe])?; // 20 ms of Opus
//! while let Some(event) = events.next().await {
//!     if let Event::PeerJoined(peer) = event {
//!         room.send_message_to(&[peer.id], "welcome").await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Transport::WebTransport`] is one QUIC connection; [`Transport::WebSocket`] is what web clients use, WebSockets and a
//!   WebRTC data channel.
//! - Voice never waits: what the network or the application does not take in time is dropped, the oldest first, and counted
//!   in [`Counters`].
//! - Events are never dropped: a room whose [`Events`] are not read is left. Whoever wants none drops them.
//! - Certificates are accepted by roots or hashes that the application names ([`Trust`]), and by nothing else.

#![warn(
    missing_docs,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod client;
mod config;
mod counters;
mod datagram;
mod entry;
mod error;
mod event;
mod link;
mod media;
mod queue;
mod room;
mod shared;
mod supervisor;
mod trust;
mod voice;
mod wire;

pub use client::Client;
pub use config::{Config, EVENTS_MAX, HEARD_MAX, Reconnect, Transport};
pub use counters::{Counters, MediaCounters};
pub use entry::{Entry, TokenError, TokenSource};
pub use error::{CallError, ConnectError, JoinError, SendError};
pub use event::{Event, LeaveReason, MediaId, Peer, Properties, Property, RemoteMedia, Snapshot};
pub use media::Media;
pub use room::{Events, Join, Room};
pub use sfu_core::PeerId;
pub use trust::{Trust, TrustError};
pub use voice::{Packet, Voice};
