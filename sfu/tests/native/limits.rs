//! What a client can do to the server, and cannot.

use std::time::Duration;

use crate::{
    client::{Stream, map},
    packet::packet,
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_too_large_or_no_frames_end_the_session() {
    let world = World::start("", "").await;
    for bytes in [
        &u32::MAX.to_be_bytes()[..],
        &[0, 1, 0, 1],
        &[0, 0, 0, 3, 1, 2, 3],
    ] {
        let mut alice = world.member("hall", "alice").await;
        alice.main.send.write_all(bytes).await.expect("sent");
        assert_eq!(alice.main.frame().await, None, "{bytes:?}");
        let closed = alice.session.closed().await.to_string();
        assert!(closed.contains("1002"), "{bytes:?}: {closed}");
    }
    world.settles("sfu_clients", "quic", 0.0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_does_not_read_holds_up_nobody() {
    let limits =
        "[limit.peer]\nincoming_messages = { rate = 100000, capacity = 100000, overflow = 0 }";
    let world = World::start("", limits).await;
    let mut alice = world.member("hall", "alice").await;
    let deaf = world.member("hall", "deaf").await;
    let mut bob = world.member("hall", "bob").await;
    // Far more than what is kept for one that does not read.
    let message = vec![7; 30_000];
    for number in 0..400 {
        let params = map([
            ("message", rmpv::Value::Binary(message.clone())),
            (
                "target_peer_ids",
                rmpv::Value::Array(vec![deaf.peer.into()]),
            ),
        ]);
        let sent = alice.room.call("SendMessage", params).await;
        sent.unwrap_or_else(|error| panic!("{number}: {error}"));
    }
    let left = bob.room.update("PeerLeft").await;
    assert_eq!(left["peer_id"].as_u64(), Some(deaf.peer));
    let sent = packet(alice.media, 1);
    alice
        .session
        .send_datagram(sent.clone().into())
        .expect("sent");
    assert_eq!(bob.heard().await, sent);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn voice_of_others_and_nonsense_goes_nowhere() {
    let world = World::start("", "").await;
    let alice = world.member("hall", "alice").await;
    let bob = world.member("hall", "bob").await;
    for bytes in [
        packet(bob.media, 1),
        vec![],
        vec![0xff; 1_100],
        vec![1, 2, 3],
    ] {
        alice.session.send_datagram(bytes.into()).expect("sent");
    }
    world.settles("sfu_drops_total", "foreign_media", 1.0).await;
    world.settles("sfu_drops_total", "malformed", 3.0).await;
    let sent = packet(alice.media, 1);
    alice
        .session
        .send_datagram(sent.clone().into())
        .expect("sent");
    assert_eq!(bob.heard().await, sent, "and nothing before it");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_few_and_can_be_opened_again() {
    let world = World::start("", "").await;
    let alice = world.member("hall", "alice").await;
    for _ in 0..5 {
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = Stream::open(&alice.session).await;
            stream.send_frame(b"nobody knows this").await;
            streams.push(stream);
        }
        for stream in &mut streams {
            assert_eq!(stream.frame().await, None);
        }
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(alice.session.close_reason().is_none());
    world.stop().await;
}
