//! Packets from nobody: they are counted, cost no memory, and hold up no call.

use std::{net::UdpSocket, thread, time::Duration};

use tokio::time::timeout;

use crate::{
    client::{OFFER, binding_request, map},
    world::{Folder, World},
};

/// Packets that are sent at once before the server gets its turn: fewer than a socket's buffer takes.
const BURST: usize = 64;

/// What a server may keep of a flood, in KiB: nothing but what its allocator does not give back.
const KEPT_KIB_MAX: u64 = 8 * 1024;

fn noise(first: std::ops::RangeInclusive<u8>, most: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let length = random.usize(1..most);
    let mut bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
    bytes[0] = random.u8(first);
    bytes
}

/// A packet that no client sends.
fn packet(kind: usize, known: &str, random: &mut fastrand::Rng) -> Vec<u8> {
    match kind % 8 {
        0 => {
            let fragment: String = (0..16).map(|_| random.alphanumeric()).collect();
            binding_request(&fragment)
        }
        1 => {
            let mut bytes = binding_request("AAAA");
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
            bytes
        }
        2 => noise(0..=3, 200, random),
        3 => noise(20..=63, 1_400, random),
        4 => noise(64..=255, 1_400, random),
        5 => noise(20..=63, 60_000, random),
        6 => binding_request(known),
        _ => Vec::new(),
    }
}

/// Sends so many packets from several addresses, no faster than the server can take them.
fn flood(world: &World, known: &str, count: usize, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let sockets: Vec<_> = (0..20)
        .map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port"))
        .collect();
    for sent in 0..count {
        let bytes = packet(sent, known, &mut random);
        let socket = &sockets[random.usize(..sockets.len())];
        // A buffer that is full loses a packet, as networks do.
        let _ = socket.send_to(&bytes, world.webrtc);
        if sent % BURST == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_from_nobody_are_counted_and_cost_nothing() {
    const WARM_UP: usize = 10_000;
    const PACKETS: usize = 50_000;
    let mut world = Folder::new("").start(&[]).await;
    let mut alice = world.member("room", "alice").await;
    let answer = alice
        .main
        .call("SetupWebRtc", map([("sdp", OFFER.into())]))
        .await
        .unwrap();
    let answer = answer["sdp"].as_str().unwrap().to_owned();
    let known = answer
        .lines()
        .find_map(|line| line.strip_prefix("a=ice-ufrag:"))
        .unwrap();
    let seed = 17;
    tokio::task::block_in_place(|| flood(&world, known, WARM_UP, seed));
    let before = world.resident_kib();
    let calls = async {
        loop {
            let call = alice.room.call("Nothing", map([]));
            let answer = timeout(Duration::from_secs(1), call).await;
            answer.expect("answered soon").expect_err("unknown");
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    };
    let world = &mut world;
    let flooded = async {
        tokio::task::block_in_place(|| flood(world, known, PACKETS, seed + 1));
    };
    tokio::select! {
        biased;
        () = calls => {}
        () = flooded => {}
    }
    let grown = world.resident_kib().saturating_sub(before);
    assert!(
        grown < KEPT_KIB_MAX,
        "seed {seed}: grown by {grown} KiB from {before}"
    );
    let counted = async |reason: &str| world.count("sfu_drops_total", reason).await;
    let all = (WARM_UP + PACKETS) as f64;
    for (reason, share) in [("unknown_address", 0.25), ("unknown_packet", 0.25)] {
        let count = counted(&format!("\"{reason}\"")).await;
        assert!(count > all * share * 0.8, "{reason}: {count} of {all}");
    }
    // The rest names a session that is there: its connection ignores what nobody signed.
    let count = counted("").await;
    assert!((all * 0.5..=all).contains(&count), "{count} of {all}");
    assert!(
        world.is_running() && !world.log().contains("panicked"),
        "{}",
        world.log()
    );
    let mut bob = world.member("room", "bob").await;
    world.member("room", "carol").await;
    bob.room.update("PeerJoined").await;
}
