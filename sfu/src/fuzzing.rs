//! Doors for the fuzz targets into parts that nothing else outside sees. They are there only when cargo-fuzz builds.

use std::{net::SocketAddr, time::Instant};

use crate::shard::{ClientId, Offers, Packet, ShardNumber, shard_of};

/// The user fragment of the session that a packet of the shared socket is for, and the number of its shard if one of
/// ours made it; `None` for what is no STUN message with a user name.
pub fn session_of(packet: &[u8]) -> Option<(&str, Option<u8>)> {
    match Packet::of(packet) {
        Packet::Stun(fragment) => Some((fragment, shard_of(fragment).map(|shard| shard.0))),
        Packet::Dtls | Packet::Unknown => None,
    }
}

/// A server's side of offers, which is costly to make.
#[derive(Debug)]
pub struct Answering(Offers);

impl Answering {
    /// Answers name these addresses.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn new(candidates: Vec<SocketAddr>) -> Result<Self, &'static str> {
        Offers::new(candidates).map(Self)
    }

    /// The answer to an offer from a client of this shard; `None` when it is refused.
    pub fn answer(&self, now: Instant, shard: u8, offer: &str) -> Option<String> {
        let accepted = self.0.accept(now, ShardNumber(shard), ClientId(1), offer);
        accepted.ok().map(|(_, answer)| answer)
    }
}
