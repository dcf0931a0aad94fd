//! A full room whose members all talk at the usual rate.

use std::{collections::HashMap, time::Duration};

use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    caller::Caller,
    packet::{FRAME_BYTES, frame},
    world::{PATIENCE, World},
};

const PEERS: usize = 20;

/// Packets that each of them sends.
const PACKETS: usize = 500;

/// Between two packets of a talker.
const PACKET_TIME: Duration = Duration::from_millis(20);

/// Rounds that the slowest hearer may be behind before the talkers wait: a machine that has no time for the clients
/// makes the test longer, and says nothing about the server.
const ROUNDS_BEHIND_MAX: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_packets_in_a_room_of_twenty_all_arrive_once_and_in_order() {
    // The streams of rooms are not read meanwhile, so pings are not answered.
    let world = World::start_with("[http]\ntimeout = 120_000\n").await;
    let users: Vec<_> = (0..PEERS).map(|number| format!("user-{number}")).collect();
    let joining = users.iter().map(|user| world.caller("hall", user));
    let mut callers: Vec<Caller> = join_all(joining).await;

    let mut ticks = interval(PACKET_TIME);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0..PACKETS {
        ticks.tick().await;
        for caller in &mut callers {
            caller.talk().await;
        }
        let least = round.saturating_sub(ROUNDS_BEHIND_MAX) * (PEERS - 1);
        let waiting = Instant::now();
        while callers.iter().any(|caller| caller.voice.heard() < least) {
            if waiting.elapsed() > PATIENCE {
                panic!("packets were lost by round {round}\n{}", lost(&world).await);
            }
            ticks.tick().await;
        }
    }

    let medias: Vec<_> = callers.iter().map(|caller| caller.media).collect();
    let expected = (PEERS - 1) * PACKETS;
    for caller in &callers {
        let waiting = Instant::now();
        while caller.voice.heard() < expected {
            if waiting.elapsed() > PATIENCE {
                panic!("packets were lost\n{}", lost(&world).await);
            }
            ticks.tick().await;
        }
        let heard = caller.voice.hears(expected).await;
        assert_eq!(heard.len(), expected, "none twice");
        let mut next: HashMap<u64, u32> = HashMap::new();
        for packet in heard {
            assert_ne!(packet.media, caller.media, "nobody hears itself");
            assert!(medias.contains(&packet.media));
            let next = next.entry(packet.media).or_insert(packet.sequence);
            assert_eq!(packet.sequence, *next, "in order");
            *next = next.wrapping_add(1);
            let sent = frame(packet.media, packet.sequence, FRAME_BYTES);
            assert_eq!(packet.frame, sent, "as it was sent");
        }
        assert_eq!(next.len(), PEERS - 1);
    }
    assert_eq!(world.count("sfu_drops_total", "").await, 0.0);
    world.stop().await;
}

/// What the server knows of it.
async fn lost(world: &World) -> String {
    let metrics = world.metrics().await;
    let telling = |line: &&str| {
        line.starts_with("sfu_packets_") || line.starts_with("sfu_drops_") && !line.ends_with(" 0")
    };
    let lines: Vec<_> = metrics.lines().filter(telling).collect();
    lines.join("\n")
}
