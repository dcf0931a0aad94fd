//! Whose a packet is, and the way to other shards.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use sfu_core::DropReason;

use crate::shard::{
    ShardNumber,
    demux::{Packet, shard_of},
    inbox::{Handed, Inbox},
    sessions::{SessionNumber, Sessions},
};

/// Voice that is older than this is of no use to anybody: receivers have given up waiting for it.
const VOICE_AGE_MAX: Duration = Duration::from_millis(100);

/// Where a packet's session is.
pub(super) enum Owner {
    Here(SessionNumber),
    There(ShardNumber),
}

/// Whose a packet is: by its address, or by the user fragment that STUN names.
pub(super) fn owner(
    now: Instant,
    sessions: &mut Sessions,
    foreign: &HashMap<SocketAddr, ShardNumber>,
    shard: ShardNumber,
    source: SocketAddr,
    bytes: &[u8],
) -> Result<Owner, DropReason> {
    match Packet::of(bytes) {
        Packet::Unknown => Err(DropReason::UnknownPacket),
        Packet::Dtls => match sessions.by_address(source) {
            Some(number) => Ok(Owner::Here(number)),
            None => foreign
                .get(&source)
                .map(|shard| Owner::There(*shard))
                .ok_or(DropReason::UnknownAddress),
        },
        Packet::Stun(user_fragment) => {
            if let Some(number) = sessions.by_user_fragment(user_fragment) {
                sessions.learn(now, number, source)?;
                return Ok(Owner::Here(number));
            }
            let other = shard_of(user_fragment).filter(|other| *other != shard);
            other.map(Owner::There).ok_or(DropReason::UnknownAddress)
        }
    }
}

pub(super) fn hand(
    inboxes: &[Arc<Inbox>],
    shard: ShardNumber,
    packet: Handed,
) -> Result<(), DropReason> {
    let inbox = inboxes
        .get(shard.index())
        .ok_or(DropReason::UnknownAddress)?;
    inbox
        .hand(packet)
        .then_some(())
        .ok_or(DropReason::QueueFull)
}

pub(super) fn is_stale(now: Instant, arrived: Instant) -> bool {
    now.saturating_duration_since(arrived) > VOICE_AGE_MAX
}
