//! Coming back to a real voice server after a loss, over WebSockets and a data channel.

use std::time::Duration;

use voice_client::{
    CallError, Client, Entry, Event, Join, LeaveReason, Reconnect, SendError, TokenSource,
};

use crate::{
    relay::Relay,
    world::{Player, World, event},
};

/// A player whose signalling goes over a relay.
async fn relayed(world: &World, relay: &Relay, reconnect: Reconnect) -> Player {
    let mut config = world.config();
    config.reconnect = reconnect;
    let tokens = TokenSource::fixed(world.token("bob", &["hall"]));
    let entry = Entry::server(relay.address.to_string(), tokens);
    let (client, voice) = Client::connect(entry, config).await.expect("let in");
    Player::enter(client, voice, "bob", "hall").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_connections_are_cut_comes_back_with_its_handles() {
    let world = World::start().await;
    let relay = Relay::new(world.http).await;
    let mut bob = relayed(&world, &relay, Reconnect::default()).await;
    let mut eve = world.player("eve", "hall").await;
    bob.room.set_user_data("changed").await.unwrap();
    relay.cut(true);
    bob.event(|event| *event == Event::Reconnecting).await;
    while bob.media.send(&[0x78]) != Err(SendError::NotConnected) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (called, ()) = tokio::join!(bob.room.send_message("back"), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        relay.cut(false);
    });
    called.expect("a call that waits for the way back");
    let back = bob
        .event(|event| matches!(event, Event::Resumed(_) | Event::Rejoined(_)))
        .await;
    let (Event::Resumed(room) | Event::Rejoined(room)) = back else {
        panic!("filtered");
    };
    assert_eq!(room.own_id, bob.room.own_id());
    assert!(room.peers.iter().any(|peer| peer.id == eve.room.own_id()));
    assert_eq!(bob.client.counters().losses, 1);

    let own = bob.room.own_id();
    let told = |event: &Event| match event {
        Event::MessageReceived { sender, message } => *sender == own && message == "back",
        _ => false,
    };
    eve.event(told).await;
    let seen = eve.room.peers();
    let seen = seen.iter().find(|peer| peer.id == own).unwrap();
    assert_eq!(seen.user_data, "changed", "also of a peer that is new");
    // A media that is started anew is known once its start is told; voice and events take different ways.
    while bob.client.media_counters(eve.media.id().unwrap()).is_none()
        || eve.client.media_counters(bob.media.id().unwrap()).is_none()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bob.media.send(&[0x78, 1]).unwrap();
    let heard = eve.hears().await;
    assert_eq!((heard.peer, &heard.payload[..]), (own, &[0x78, 1][..]));
    eve.media.send(&[0x78, 2]).unwrap();
    assert_eq!(bob.hears().await.payload[..], [0x78, 2]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_come_back_in_time_is_told_and_can_join_anew() {
    let world = World::start().await;
    let relay = Relay::new(world.http).await;
    let reconnect = Reconnect {
        delay_min: Duration::from_millis(10),
        delay_max: Duration::from_millis(20),
        time_max: Duration::from_millis(200),
    };
    let mut bob = relayed(&world, &relay, reconnect).await;
    relay.cut(true);
    bob.event(|event| *event == Event::Reconnecting).await;
    let left = bob.event(|event| matches!(event, Event::Left(_))).await;
    assert_eq!(left, Event::Left(LeaveReason::ConnectionLost));
    let error = bob.room.send_message("late").await.unwrap_err();
    assert_eq!(error, CallError::Left(LeaveReason::ConnectionLost));
    assert!(bob.client.join("hall", Join::default()).await.is_err());
    relay.cut(false);
    let joined = bob.client.join("hall", Join::default()).await;
    let (room, _events) = joined.expect("a new connection");
    room.send_message("here").await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_to_come_back_leaves_at_once() {
    let world = World::start().await;
    let relay = Relay::new(world.http).await;
    let reconnect = Reconnect {
        time_max: Duration::ZERO,
        ..Reconnect::default()
    };
    let mut bob = relayed(&world, &relay, reconnect).await;
    relay.cut(true);
    let last = event(&mut bob.events, |event| {
        !matches!(event, Event::PeerJoined(_))
    })
    .await;
    assert_eq!(last, Event::Left(LeaveReason::ConnectionLost));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_does_not_wait_for_the_way_back() {
    let world = World::start().await;
    let relay = Relay::new(world.http).await;
    let mut bob = relayed(&world, &relay, Reconnect::default()).await;
    relay.cut(true);
    bob.event(|event| *event == Event::Reconnecting).await;
    bob.client.close().await;
    let left = bob.event(|event| matches!(event, Event::Left(_))).await;
    assert_eq!(left, Event::Left(LeaveReason::Asked));
    world.stop().await;
}
