//! What clients cost the server in memory.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::sleep;

use crate::{
    caller::Caller,
    packet::{frame, packet_of},
    process,
    relay::Relay,
    voice::Way,
};

/// The streams of rooms are not read meanwhile, so pings are not answered.
const UNREAD: &str = "[http]\ntimeout = 120_000\n";

const PEERS: usize = 200;

const ROOM: usize = 10;

/// Rooms that are filled at the same time: most of the time clients wait for their own timers.
const ROOMS_AT_ONCE: usize = 5;

/// What a connected web client may cost, both streams and voice, in KiB.
const KIB_PER_PEER_MAX: u64 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_client_costs_little_memory() {
    let (world, pid) = process::start(UNREAD).await;
    // Whatever is set up once is there with the first.
    let _first = world.caller("first", "first").await;
    let before = process::resident_kib(pid);
    let rooms: Vec<_> = (0..PEERS / ROOM)
        .map(|room| format!("room-{room}"))
        .collect();
    let users: Vec<_> = (0..ROOM).map(|user| format!("user-{user}")).collect();
    let mut callers: Vec<Caller> = Vec::new();
    for rooms in rooms.chunks(ROOMS_AT_ONCE) {
        let peers = rooms
            .iter()
            .flat_map(|room| users.iter().map(move |user| (room, user)));
        let joining = peers.map(|(room, user)| world.caller(room, user));
        callers.extend(join_all(joining).await);
    }
    for room in callers.chunks_mut(ROOM) {
        let [talker, hearers @ ..] = room else {
            panic!("nobody");
        };
        talker
            .is_heard_by(&hearers.iter().collect::<Vec<_>>())
            .await;
    }
    let each = process::resident_kib(pid).saturating_sub(before) / PEERS as u64;
    assert!(each <= KIB_PER_PEER_MAX, "{each} KiB");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_are_gone_do_not_make_the_server_grow() {
    const GONE: usize = 20;
    const PACKETS: u32 = 1_500;
    const BYTES: usize = 1_200;
    /// A quarter of what was said to those who are gone.
    const GROWTH_KIB_MAX: u64 = (GONE * PACKETS as usize * BYTES / 1024 / 4) as u64;

    let fast = "[limit.network]\nincoming_media_packets = { rate = 10_000, capacity = 10_000 }\n";
    let (world, pid) = process::start(&format!("{UNREAD}{fast}")).await;
    let talker = world.caller("hall", "talker").await;
    let mut relays = Vec::new();
    let mut callers = Vec::new();
    for number in 0..GONE {
        let relay = Relay::new(world.webrtc, Duration::ZERO).await;
        let way = Way::Over(relay.address);
        callers.push(
            world
                .caller_by(way, "hall", &format!("gone-{number}"))
                .await,
        );
        relays.push(relay);
    }
    for relay in &relays {
        relay.cut(true);
    }
    let before = process::resident_kib(pid);
    for sequence in 0..PACKETS {
        let bytes = packet_of(&[talker.media], sequence, &frame(1, sequence, BYTES));
        talker.voice.send(&bytes).await;
        sleep(Duration::from_millis(1)).await;
    }
    world
        .counts("sfu_packets_in_total", "", PACKETS.into())
        .await;
    let dropped = world.drops("slow_receiver").await;
    assert!(dropped > f64::from(PACKETS), "{dropped}");
    let grown = process::resident_kib(pid).saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
    world.stop().await;
}
