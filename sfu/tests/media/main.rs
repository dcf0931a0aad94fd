//! Voice over real media: an independent WebRTC stack as the client.

mod caller;
#[allow(dead_code, reason = "the tests of the signalling use the rest")]
#[path = "../server/client.rs"]
mod client;
mod far;
mod game_server;
#[allow(dead_code, reason = "the tests of the signalling use the rest")]
#[path = "../server/grid.rs"]
mod grid;
mod hearing;
mod memory;
mod packet;
mod process;
mod refused;
mod relay;
mod resume;
mod sessions;
mod shards;
mod voice;
#[allow(dead_code, reason = "the tests of the signalling use the rest")]
#[path = "../server/world.rs"]
mod world;
