//! Voice in datagrams.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    packet::{Packet, packet},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_says_the_others_hear_byte_for_byte() {
    let world = World::start("", "").await;
    let alice = world.member("hall", "alice").await;
    let bob = world.member("hall", "bob").await;
    let carol = world.member("hall", "carol").await;
    for sequence in 1..50 {
        let sent = packet(alice.media, sequence);
        alice
            .session
            .send_datagram(sent.clone().into())
            .expect("sent");
        for listener in [&bob, &carol] {
            assert_eq!(listener.heard().await, sent);
        }
        if sequence % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let own = timeout(Duration::from_millis(100), alice.session.read_datagram()).await;
    assert!(own.is_err(), "nobody hears itself");
    world.settles("sfu_packets_in_total", "", 49.0).await;
    world.settles("sfu_packets_out_total", "", 98.0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_talk_at_once_are_all_heard() {
    let world = World::start("", "").await;
    let mut members = Vec::new();
    for number in 0..6 {
        members.push(world.member("hall", &format!("user {number}")).await);
    }
    for sequence in 1..=100 {
        for member in &members {
            let sent = packet(member.media, sequence);
            member.session.send_datagram(sent.into()).expect("sent");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for member in &members {
        let mut heard = Vec::new();
        while heard.len() < 500 {
            let packet = Packet::parse(&member.heard().await);
            assert_ne!(packet.media, member.media);
            heard.push((packet.media, packet.sequence));
        }
        heard.sort_unstable();
        heard.dedup();
        assert_eq!(heard.len(), 500, "each of them once");
    }
    world.stop().await;
}
