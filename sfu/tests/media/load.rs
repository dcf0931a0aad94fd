//! Voice over real media, as much as a full room has: a program of its own, so that nothing else runs meanwhile.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "caller.rs"]
mod caller;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../server/client.rs"]
mod client;
#[path = "exchange.rs"]
mod exchange;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "packet.rs"]
mod packet;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "voice.rs"]
mod voice;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../server/world.rs"]
mod world;
