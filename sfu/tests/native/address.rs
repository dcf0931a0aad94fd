//! Clients that change their address, and clients that fall silent.

use std::{net::UdpSocket, time::Duration};

use crate::{packet::packet, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_address_changes_goes_on_talking_and_hearing() {
    let world = World::start("", "").await;
    let mut alice = world.member("hall", "alice").await;
    let bob = world.member("hall", "bob").await;
    for sequence in 1..60 {
        if sequence % 20 == 0 {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            bob.endpoint.rebind(socket).expect("a socket");
        }
        let sent = packet(bob.media, sequence);
        bob.session.send_datagram(sent.into()).expect("sent");
        let sent = packet(alice.media, sequence);
        alice.session.send_datagram(sent.into()).expect("sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (listener, talker) in [(&alice, &bob), (&bob, &alice)] {
        let mut last = 0;
        while last < 59 {
            let heard = crate::packet::Packet::parse(&listener.heard().await);
            assert_eq!(heard.media, talker.media);
            assert!(
                heard.sequence - last <= 15,
                "a gap of {} packets",
                heard.sequence - last
            );
            last = heard.sequence;
        }
    }
    assert!(!alice.room.has_heard("PeerLeft").await);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_migration_a_new_address_is_not_listened_to() {
    let world = World::start(
        "migration = false\nidle_timeout = 900\nkeep_alive_interval = 300",
        "",
    )
    .await;
    let mut alice = world.member("hall", "alice").await;
    let bob = world.member("hall", "bob").await;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    bob.endpoint.rebind(socket).expect("a socket");
    let left = alice.room.update("PeerLeft").await;
    assert_eq!(
        left["peer_id"].as_u64(),
        Some(bob.peer),
        "silent for too long"
    );
    world.stop().await;
}
