//! A whole voice server, and native clients that talk to it over WebTransport.

mod address;
mod client;
mod limits;
#[path = "../media/packet.rs"]
mod packet;
mod resume;
mod sessions;
mod voice;
mod world;
