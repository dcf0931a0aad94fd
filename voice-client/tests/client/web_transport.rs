//! The WebTransport binding: voice, coming back, tokens, and another address.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sfu_core::LeaveReason as Reason;
use voice_client::{
    Client, Config, ConnectError, Entry, Event, Join, LeaveReason, PeerId, TokenSource, Trust,
};

use crate::{
    quic_server::{OTHER_MEDIA, OTHER_PEER, QuicServer, frame, hash, left},
    world::{Player, certificate, event},
};

async fn player(server: &QuicServer, tokens: TokenSource) -> Player {
    let config = Config::new(Trust::hashes([hash(&server.certificate)]));
    let entry = Entry::server(server.address.to_string(), tokens);
    let (client, voice) = Client::connect(entry, config).await.expect("let in");
    Player::enter(client, voice, "bob", "hall").await
}

fn own(event: Event) -> PeerId {
    match event {
        Event::Resumed(room) | Event::Rejoined(room) => room.own_id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_over_streams_and_voice_over_datagrams() {
    let server = QuicServer::start("good");
    let mut bob = player(&server, TokenSource::fixed("good")).await;
    assert_eq!(bob.room.peers()[0].id.value(), OTHER_PEER);
    bob.media.send(&[0x78, 1]).unwrap();
    let heard = bob.hears().await;
    assert_eq!(
        (heard.peer.value(), heard.media.value()),
        (OTHER_PEER, OTHER_MEDIA)
    );
    assert_eq!(heard.payload[..], [0x78, 1]);
    let gone = sfu_core::Event::PeerLeft(heard.peer);
    server.say(&frame(&gone)).await;
    bob.event(|event| *event == Event::PeerLeft(heard.peer))
        .await;
    bob.media.send(&[0x78, 2]).unwrap();
    while bob.client.counters().unknown_media == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    bob.room.leave().await;
    let last = event(&mut bob.events, |event| matches!(event, Event::Left(_))).await;
    assert_eq!(last, Event::Left(LeaveReason::Asked));
    let log = server.state().log.clone();
    assert_eq!(
        log,
        ["Authenticate", "good", "JoinRoom", "StartMedia", "left"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_from_another_address() {
    let server = QuicServer::start("good");
    let mut bob = player(&server, TokenSource::fixed("good")).await;
    bob.media.send(&[0x78, 1]).unwrap();
    bob.hears().await;
    let before = server.client_address();
    bob.client.rebind().await.unwrap();
    bob.media.send(&[0x78, 2]).unwrap();
    assert_eq!(bob.hears().await.payload[..], [0x78, 2]);
    bob.room.send_message("still here").await.unwrap();
    assert_ne!(server.client_address(), before);
    assert_eq!(bob.client.counters().losses, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_place_is_taken_again_with_its_key_and_only_once() {
    let server = QuicServer::start("good");
    let mut bob = player(&server, TokenSource::fixed("good")).await;
    let (peer, media) = (bob.room.own_id(), bob.media.id());
    for _ in 0..2 {
        server.cut();
        bob.event(|event| *event == Event::Reconnecting).await;
        let back = bob
            .event(|event| !matches!(event, Event::Reconnecting))
            .await;
        assert!(matches!(back, Event::Resumed(_)), "{back:?}");
        assert_eq!((own(back), bob.media.id()), (peer, media));
        bob.media.send(&[0x78, 3]).unwrap();
        assert_eq!(bob.hears().await.payload[..], [0x78, 3]);
    }
    let keys = server.state().keys.len();
    assert_eq!(keys, 1, "each return uses one up and gives one");
    let starts = server
        .state()
        .log
        .iter()
        .filter(|it| *it == "StartMedia")
        .count();
    assert_eq!(starts, 1, "it was still started");
    let counters = bob.client.counters();
    assert_eq!(
        (counters.losses, counters.resumed, counters.rejoined),
        (2, 2, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_was_given_up_is_joined_anew() {
    let server = QuicServer::start("good");
    let mut bob = player(&server, TokenSource::fixed("good")).await;
    let (peer, media) = (bob.room.own_id(), bob.media.id());
    server.state().keys.clear();
    server.cut();
    let back = bob
        .event(|event| !matches!(event, Event::Reconnecting))
        .await;
    assert!(matches!(back, Event::Rejoined(_)), "{back:?}");
    let now = own(back);
    assert_ne!(now, peer);
    assert_eq!(bob.room.own_id(), now);
    bob.room.send_message("here").await.unwrap();
    assert_ne!(bob.media.id(), media, "the same handle, another media");
    bob.media.send(&[0x78, 4]).unwrap();
    assert_eq!(bob.hears().await.payload[..], [0x78, 4]);
    let log = server.state().log.clone();
    let wanted = ["ResumeRoom", "JoinRoom", "StartMedia", "SendMessage"];
    assert_eq!(log[log.len() - 4..], wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_lost_alone_comes_back() {
    let server = QuicServer::start("good");
    let mut bob = player(&server, TokenSource::fixed("good")).await;
    server.reset(1013).await;
    let back = bob
        .event(|event| !matches!(event, Event::Reconnecting))
        .await;
    assert!(matches!(back, Event::Resumed(_)), "{back:?}");
    server.reset(1008).await;
    let last = bob.event(|event| matches!(event, Event::Left(_))).await;
    let reason = LeaveReason::Closed {
        code: 1008,
        reason: String::new(),
    };
    assert_eq!(last, Event::Left(reason));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_is_replaced_by_a_new_one() {
    let server = QuicServer::start("token-0");
    let fetched = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&fetched);
    let tokens = TokenSource::from_fn(move || {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move { Ok(format!("token-{number}")) }
    });
    let mut bob = player(&server, tokens).await;
    server.cut();
    bob.event(|event| matches!(event, Event::Resumed(_))).await;
    assert_eq!(fetched.load(Ordering::SeqCst), 1, "it was still good");
    server.state().tokens = ["token-1".to_owned()].into();
    server.cut();
    bob.event(|event| matches!(event, Event::Resumed(_))).await;
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
    let log = server.state().log.clone();
    let wanted = [
        "Authenticate",
        "token-0",
        "Authenticate",
        "token-1",
        "ResumeRoom",
    ];
    assert_eq!(log[log.len() - 5..], wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_banned_does_not_come_back() {
    let server = QuicServer::start("good");
    let mut bob = player(&server, TokenSource::fixed("good")).await;
    server.say(&left(Reason::PeerKicked)).await;
    let last = event(&mut bob.events, |_| true).await;
    assert_eq!(last, Event::Left(LeaveReason::PeerKicked));
    assert_eq!(bob.events.next().await, None);
    assert_eq!(bob.room.left(), Some(LeaveReason::PeerKicked));
    let (room, _) = bob.client.join("hall", Join::default()).await.unwrap();
    assert_ne!(room.own_id(), bob.room.own_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_costs_the_connection_and_nothing_else() {
    let server = QuicServer::start("good");
    let mut bob = player(&server, TokenSource::fixed("good")).await;
    server.say(b"noise").await;
    let back = bob
        .event(|event| !matches!(event, Event::Reconnecting))
        .await;
    assert!(matches!(back, Event::Resumed(_)), "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_certificate_is_refused() {
    let server = QuicServer::start("good");
    let config = Config::new(Trust::hashes([hash(&certificate())]));
    let entry = Entry::server(server.address.to_string(), TokenSource::fixed("good"));
    let error = Client::connect(entry, config).await.unwrap_err();
    let ConnectError::Unreachable(text) = &error else {
        panic!("{error:?}");
    };
    assert!(text.contains("certificate"), "{text}");
    assert!(server.state().log.is_empty(), "the token was not shown");
}
