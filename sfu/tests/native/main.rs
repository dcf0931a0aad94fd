//! A whole voice server, and native clients that talk to it over WebTransport.

mod address;
mod client;
mod limits;
#[path = "../media/packet.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod packet;
mod sessions;
mod voice;
mod world;
