//! Receivers that are far away, do not listen, or are gone without a word.

use std::time::Duration;

use tokio::time::sleep;

use crate::{refused::wait_to_be_heard, relay::Relay, voice::Way, world::World};

/// Between two packets of a talker.
const PACKET_TIME: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_listen_costs_the_others_nothing() {
    const PACKETS: usize = 100;
    let world = World::start().await;
    let relay = Relay::new(world.webrtc, Duration::ZERO).await;
    let mut alice = world.caller("lobby", "alice").await;
    let bob = world.caller("lobby", "bob").await;
    let carol = world
        .caller_by(Way::Over(relay.address), "lobby", "carol")
        .await;
    relay.cut(true);
    for _ in 0..PACKETS {
        alice.talk().await;
        sleep(PACKET_TIME).await;
    }
    assert_eq!(bob.voice.hears(PACKETS).await.len(), PACKETS);
    assert!(world.drops("slow_receiver").await > 0.0);
    assert_eq!(carol.voice.heard(), 0);
    relay.cut(false);
    wait_to_be_heard(&mut alice, &carol).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_far_away_hears_many_talkers_whole() {
    const TALKERS: usize = 5;
    const PACKETS: usize = 100;
    let world = World::start().await;
    let relay = Relay::new(world.webrtc, Duration::from_millis(100)).await;
    let far = world
        .caller_by(Way::Over(relay.address), "lobby", "far")
        .await;
    let mut talkers = Vec::new();
    for number in 0..TALKERS {
        talkers.push(world.caller("lobby", &format!("talker-{number}")).await);
    }
    for _ in 0..PACKETS {
        for talker in &mut talkers {
            talker.talk().await;
        }
        sleep(PACKET_TIME).await;
    }
    world
        .counts("sfu_packets_in_total", "", (TALKERS * PACKETS) as f64)
        .await;
    assert_eq!(world.drops("slow_receiver").await, 0.0);
    let heard = far.voice.hears(TALKERS * PACKETS).await;
    assert_eq!(heard.len(), TALKERS * PACKETS);
    world.stop().await;
}
