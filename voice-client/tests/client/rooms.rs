//! Rooms of one connection, over WebSockets and a data channel, at a real voice server.

use std::time::Duration;

use tokio::time::timeout;
use voice_client::{
    CallError, Client, ConnectError, Entry, Event, Join, JoinError, LeaveReason, Property,
    SendError, TokenSource, Transport, Trust,
};

use crate::world::{PATIENCE, World, certificate, event, hears};

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_hear_each_other_by_web_sockets() {
    hear_each_other(Transport::WebSocket, Transport::WebSocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_hear_each_other_by_web_transport() {
    hear_each_other(Transport::WebTransport, Transport::WebTransport).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_transports_hear_each_other() {
    hear_each_other(Transport::WebSocket, Transport::WebTransport).await;
}

async fn hear_each_other(one: Transport, other: Transport) {
    let world = World::start().await;
    let mut bob = world.player_by(one, "bob", "hall").await;
    let mut eve = world.player_by(other, "eve", "hall").await;
    bob.expects_talker().await;
    let own = eve.media.id().expect("started");
    for payload in [[0x78, 1], [0x78, 2], [0x78, 3]] {
        eve.media.send(&payload).expect("sent");
    }
    let mut sequence = None;
    for (index, payload) in [[0x78, 1], [0x78, 2], [0x78, 3]].into_iter().enumerate() {
        let heard = bob.hears().await;
        assert_eq!(
            (&*heard.room, heard.peer, heard.media),
            ("hall", eve.room.own_id(), own)
        );
        assert_eq!(heard.payload[..], payload);
        let (first, began) = *sequence.get_or_insert((heard.sequence, heard.timestamp));
        assert_eq!(heard.sequence, first.wrapping_add(index as u32));
        assert_eq!(heard.timestamp, began.wrapping_add(1_800 * index as u32));
    }
    bob.media.send(&[0x78, 9]).expect("sent");
    assert_eq!(eve.hears().await.payload[..], [0x78, 9]);
    assert!(eve.voice.try_recv().is_none(), "nobody hears itself");
    let counters = bob.client.counters();
    assert_eq!((counters.packets_sent, counters.packets_received), (1, 3));
    let of_media = bob.client.media_counters(own).expect("heard");
    assert_eq!((of_media.received, of_media.lost), (3, 0));
    eve.client.close().await;
    assert!(eve.voice.recv().await.is_none(), "the end");
    let gone = bob.event(|event| matches!(event, Event::PeerLeft(_))).await;
    assert_eq!(gone, Event::PeerLeft(eve.room.own_id()));
    assert_eq!(eve.media.send(&[0x78]), Err(SendError::Stopped));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_peers_do_is_told_and_known() {
    let world = World::start().await;
    let mut bob = world.player("bob", "hall").await;
    let mut eve = world.player("eve", "hall").await;
    let Event::PeerJoined(joined) = bob
        .event(|event| matches!(event, Event::PeerJoined(_)))
        .await
    else {
        panic!("filtered");
    };
    assert_eq!((joined.id, &*joined.user_id), (eve.room.own_id(), "eve"));
    assert_eq!(joined.user_data, "eve");
    let talker = &eve.room.peers()[0];
    assert_eq!((talker.id, talker.medias.len()), (bob.room.own_id(), 1));
    let kind = talker.medias[0].properties.get("kind");
    assert_eq!(kind, Some(&Property::Text("audio".to_owned())));

    eve.room.set_user_data("new").await.unwrap();
    let peer = eve.room.own_id();
    let user_data = "new".into();
    let wanted = Event::PeerUserDataChanged { peer, user_data };
    assert_eq!(bob.event(|event| *event == wanted).await, wanted);
    assert_eq!(bob.room.peers()[0].user_data, "new");
    eve.room.set_room_user_data("all").await.unwrap();
    bob.event(|event| *event == Event::RoomUserDataChanged("all".into()))
        .await;
    assert_eq!(bob.room.user_data(), "all");

    let message = |sender, message: &'static str| Event::MessageReceived {
        sender,
        message: message.into(),
    };
    eve.room.send_message("to all").await.unwrap();
    bob.event(|event| *event == message(peer, "to all")).await;
    let nobody = [voice_client::PeerId::SERVER];
    bob.room
        .send_message_to(&nobody, "to nobody")
        .await
        .unwrap();
    bob.room.send_message_to(&[peer], "to one").await.unwrap();
    let heard = eve.event(|event| matches!(event, Event::MessageReceived { .. }));
    assert_eq!(heard.await, message(bob.room.own_id(), "to one"));

    let media = eve.media.id().unwrap();
    eve.media.stop().await.unwrap();
    bob.event(|event| *event == Event::MediaStopped { peer, media })
        .await;
    assert!(bob.room.peers()[0].medias.is_empty());
    eve.room.set_position([5.0, 0.0, 0.0]).await.unwrap();
    bob.event(|event| *event == Event::PeerLeft(peer)).await;
    assert!(bob.room.peers().is_empty(), "too far away");
    eve.room.leave().await;
    let left = event(&mut eve.events, |event| matches!(event, Event::Left(_))).await;
    assert_eq!(left, Event::Left(LeaveReason::Asked));
    assert_eq!(eve.events.next().await, None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_rooms_share_a_connection() {
    let world = World::start().await;
    let (client, mut voice) = world.client("bob", &["hall", "yard"]).await;
    let (hall, mut hall_events) = client.join("hall", Join::default()).await.unwrap();
    let (yard, mut yard_events) = client.join("yard", Join::default()).await.unwrap();
    let refused = client.join("attic", Join::default()).await;
    assert!(matches!(refused, Err(JoinError::Refused(_))), "{refused:?}");
    let refused = client.join("hall", Join::default()).await;
    assert!(matches!(refused, Err(JoinError::Refused(_))), "{refused:?}");
    let in_hall = world.player("eve", "hall").await;
    let in_yard = world.player("joe", "yard").await;
    for events in [&mut hall_events, &mut yard_events] {
        event(events, |event| matches!(event, Event::MediaStarted { .. })).await;
    }
    in_hall.media.send(&[0x78, 1]).unwrap();
    let heard = hears(&mut voice).await;
    assert_eq!((&*heard.room, heard.peer), ("hall", in_hall.room.own_id()));
    in_yard.media.send(&[0x78, 2]).unwrap();
    let heard = hears(&mut voice).await;
    assert_eq!((&*heard.room, heard.peer), ("yard", in_yard.room.own_id()));
    let talker = in_hall.media.id().unwrap();
    hall.pause_media(talker).await.unwrap();
    in_hall.media.send(&[0x78, 3]).unwrap();
    in_yard.media.send(&[0x78, 4]).unwrap();
    assert_eq!(hears(&mut voice).await.payload[..], [0x78, 4]);
    hall.resume_media(talker).await.unwrap();
    in_hall.media.send(&[0x78, 5]).unwrap();
    assert_eq!(hears(&mut voice).await.payload[..], [0x78, 5]);
    let unknown = hall.pause_media(yard.start_media().await.unwrap().id().unwrap());
    assert!(matches!(unknown.await, Err(CallError::Refused(_))));
    drop(hall);
    let left = event(&mut hall_events, |event| matches!(event, Event::Left(_)));
    assert_eq!(left.await, Event::Left(LeaveReason::Asked));
    client.join("hall", Join::default()).await.expect("again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_not_read_end_the_room_and_say_so() {
    let world = World::start().await;
    let tokens = TokenSource::fixed(world.token("bob", &["hall"]));
    let mut config = world.config();
    config.events_max = 3;
    let entry = Entry::server(world.http.to_string(), tokens);
    let (client, _voice) = Client::connect(entry, config).await.unwrap();
    let (room, mut events) = client.join("hall", Join::default()).await.unwrap();
    let talker = world.player("eve", "hall").await;
    for _ in 0..5 {
        talker.room.send_message("flood").await.unwrap();
    }
    let left = async {
        while room.left().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, left).await.expect("left");
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(event);
    }
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(told[3], Event::Left(LeaveReason::EventsNotRead));
    let error = room.send_message("late").await.unwrap_err();
    assert_eq!(error, CallError::Left(LeaveReason::EventsNotRead));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_certificates_that_are_trusted_are_accepted() {
    let world = World::start().await;
    let connect = async |trust| {
        let mut config = world.config();
        config.trust = trust;
        let tokens = TokenSource::fixed(world.token("bob", &["hall"]));
        let entry = Entry::server(world.http.to_string(), tokens);
        Client::connect(entry, config).await
    };
    let foreign = Trust::pem_file(certificate().files().certificate_file).unwrap();
    for trust in [foreign, Trust::nobody(), Trust::hashes([[1; 32]])] {
        let error = connect(trust).await.unwrap_err();
        let ConnectError::Unreachable(text) = &error else {
            panic!("{error:?}");
        };
        assert!(text.contains("certificate"), "{text}");
    }
    let hash = crate::quic_server::hash(&world.certificate);
    connect(Trust::hashes([hash]))
        .await
        .expect("known by its hash");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_an_error() {
    let world = World::start().await;
    let tokens = TokenSource::fixed("no token");
    let entry = Entry::server(world.http.to_string(), tokens);
    let error = Client::connect(entry, world.config()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
    let tokens = TokenSource::from_fn(|| async { Err("no back end".into()) });
    let entry = Entry::server(world.http.to_string(), tokens);
    let error = Client::connect(entry, world.config()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Token(_)), "{error:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_server_that_nobody_replaces_is_told() {
    let world = World::start().await;
    let mut bob = world.player("bob", "hall").await;
    let (_, left) = tokio::join!(
        world.stop(),
        bob.event(|event| matches!(event, Event::Left(_)))
    );
    assert_eq!(left, Event::Left(LeaveReason::ServerClosing));
    assert_eq!(bob.media.send(&[0x78]), Err(SendError::Stopped));
}
