//! What may not be sent: it is heard by nobody and counted under its reason, and whoever sent it is heard again.

use std::time::Duration;

use tokio::{net::UdpSocket, time::sleep};

use crate::{
    caller::Caller,
    packet::{frame, packet, packet_of},
    relay::Relay,
    voice::Way,
    world::{PATIENCE, World},
};

impl World {
    /// Packets that were dropped for a reason so far.
    pub(crate) async fn drops(&self, reason: &str) -> f64 {
        self.count("sfu_drops_total", &format!("reason=\"{reason}\""))
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_sent_is_dropped_for_its_reason() {
    let world = World::start().await;
    let mut alice = world.caller("lobby", "alice").await;
    let bob = world.caller("lobby", "bob").await;
    let carol = world.caller("elsewhere", "carol").await;
    let mut dave = world.caller("elsewhere", "dave").await;
    let heard_before = alice.talk().await;
    bob.voice.hears_up_to(&heard_before).await;

    let good = alice.next();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let five = packet_of(&[alice.media; 5], 7, &frame(1, 1, 60));
    let large = packet_of(&[alice.media], 7, &frame(1, 1, 1_400));
    let not_started = alice.member.media_ids[0];
    for (reason, what, bytes) in [
        ("foreign_media", "a neighbour's", packet(bob.media, 1)),
        ("foreign_media", "another room's", packet(carol.media, 1)),
        ("foreign_media", "nobody's", packet(65_535, 1)),
        ("foreign_media", "no media", packet(0, 1)),
        ("media_stopped", "not started", packet(not_started, 1)),
        ("replayed", "heard before", heard_before),
        ("late", "too old", packet(alice.media, u32::MAX - 500)),
        ("too_large", "1,400 bytes of Opus", large),
        ("malformed", "five medias", five),
        ("malformed", "one byte", vec![0x96]),
        ("malformed", "no MessagePack", vec![0xc1; 60]),
        ("malformed", "a version to come", with(1, 2)),
        ("malformed", "cut off", good[..good.len() - 1].to_vec()),
        ("malformed", "too long", [&good[..], &[0]].concat()),
    ] {
        let before = world.drops(reason).await;
        alice.voice.send(&bytes).await;
        alice.is_heard_by(&[&bob]).await;
        assert_eq!(world.drops(reason).await, before + 1.0, "{reason}: {what}");
    }
    dave.is_heard_by(&[&carol]).await;
    assert_eq!(alice.voice.heard(), 0, "nobody else spoke here");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_no_room_is_not_heard() {
    let world = World::start().await;
    let mut alice = world.caller("lobby", "alice").await;
    let bob = world.caller("lobby", "bob").await;
    let (_main, voice) = world.wanderer(&["lobby"], "eve").await;
    voice.opened().await;
    voice.send(&packet(alice.media, 1)).await;
    world
        .counts("sfu_drops_total", "reason=\"no_room\"", 1.0)
        .await;
    alice.is_heard_by(&[&bob]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_is_held_to_its_rate() {
    const SENT: usize = 300;
    let world = World::start().await;
    let mut alice = world.caller("lobby", "alice").await;
    let bob = world.caller("lobby", "bob").await;
    for _ in 0..SENT {
        alice.talk().await;
        // So slowly that the way to the receiver is not what limits.
        sleep(Duration::from_millis(1)).await;
    }
    world.counts("sfu_packets_in_total", "", SENT as f64).await;
    let too_many = world.drops("media_rate").await;
    let heard = bob.voice.hears(SENT - too_many as usize).await;
    assert!((100..200).contains(&heard.len()), "{}", heard.len());
    wait_to_be_heard(&mut alice, &bob).await;
    world.stop().await;
}

/// Speaks at the usual rate until it is heard.
pub(crate) async fn wait_to_be_heard(talker: &mut Caller, hearer: &Caller) {
    let began = tokio::time::Instant::now();
    while hearer.voice.heard() == 0 {
        assert!(began.elapsed() < PATIENCE, "never heard again");
        talker.talk().await;
        sleep(Duration::from_millis(20)).await;
    }
}

/// Bytes of every kind that a socket may get.
fn garbage() -> impl Iterator<Item = Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..=255).map(move |first| {
        let length = random.usize(0..200);
        let mut bytes = vec![first];
        bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
        // Half of what looks like DTLS has a head that fits: version 1.2, an epoch, the length of what follows.
        if length > 20 && first % 2 == 0 && (20..64).contains(&first) {
            let rest = u16::try_from(bytes.len() - 13).expect("16 bits");
            bytes[1..4].copy_from_slice(&[254, 253, 0]);
            bytes[4] = random.u8(0..3);
            bytes[11..13].copy_from_slice(&rest.to_be_bytes());
        }
        bytes
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_from_anywhere_harms_nobody() {
    let world = World::start().await;
    let relay = Relay::new(world.webrtc, Duration::ZERO).await;
    let mut alice = world
        .caller_by(Way::Over(relay.address), "lobby", "alice")
        .await;
    let mut bob = world.caller("lobby", "bob").await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for bytes in garbage() {
        stranger
            .send_to(&bytes, world.webrtc)
            .await
            .expect("a socket that takes all");
        // As if it came from the client itself: anybody may claim its address.
        relay.outside.send(&bytes).await.expect("the same");
    }
    world
        .counts("sfu_drops_total", "reason=\"unknown_packet\"", 2.0 * 208.0)
        .await;
    world
        .counts("sfu_drops_total", "reason=\"unknown_address\"", 44.0)
        .await;
    for _ in 0..3 {
        alice.is_heard_by(&[&bob]).await;
        bob.is_heard_by(&[&alice]).await;
    }
    world.stop().await;
}

/// A binding request for this session, with a signature that is none.
fn forged_check(user_fragment: &str) -> Vec<u8> {
    let username = format!("{user_fragment}:eve");
    let padded = username.len().next_multiple_of(4);
    let mut bytes = vec![0, 1];
    let length = u16::try_from(4 + padded + 8 + 24).expect("16 bits");
    bytes.extend(length.to_be_bytes());
    bytes.extend([0x21, 0x12, 0xa4, 0x42]);
    bytes.extend([7; 12]);
    bytes.extend([0, 6]);
    bytes.extend(
        u16::try_from(username.len())
            .expect("16 bits")
            .to_be_bytes(),
    );
    bytes.extend(username.as_bytes());
    bytes.resize(20 + 4 + padded, 0);
    bytes.extend([0, 0x24, 0, 4, 1, 2, 3, 4]);
    bytes.extend([0, 8, 0, 20]);
    bytes.extend([9; 20]);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_checks_take_no_session_away() {
    let world = World::start().await;
    let mut alice = world.caller("lobby", "alice").await;
    let mut bob = world.caller("lobby", "bob").await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for _ in 0..10 {
        let check = forged_check(&alice.voice.user_fragment);
        stranger.send_to(&check, world.webrtc).await.expect("sent");
        alice.is_heard_by(&[&bob]).await;
        bob.is_heard_by(&[&alice]).await;
    }
    world.stop().await;
}
