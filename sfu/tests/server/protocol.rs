//! What both generations of web clients do: 0.16 with flat positions, 0.19 with three dimensions, pauses and tokens for
//! the server itself.

use rmpv::Value;

use crate::{
    client::{map, place},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_see_each_other() {
    let world = World::start().await;
    let mut alice = world.member("lobby", "alice").await;
    assert_eq!(alice.joined["room"]["id"].as_str(), Some("lobby"));
    assert_eq!(alice.joined["room"]["customer"].as_str(), Some(""));
    assert_eq!(alice.media_ids.len(), 5);
    assert!(alice.media_ids.iter().all(|id| (128..=65_535).contains(id)));
    let mut bob = world.member("lobby", "bob").await;
    assert_eq!(
        bob.joined["room"]["peers"][0]["user_id"].as_str(),
        Some("alice")
    );
    let came = alice.room.update("PeerJoined").await;
    assert_eq!(came["peer"]["id"].as_u64(), Some(bob.peer));
    assert_eq!(came["peer"]["user_data"], Value::Binary(b"bob".to_vec()));

    let start = |media: u64| {
        map([
            ("media_id", media.into()),
            ("properties", map([("kind", "audio".into())])),
        ])
    };
    bob.room
        .call("StartMedia", start(bob.media_ids[4]))
        .await
        .unwrap();
    let started = alice.room.update("MediaStarted").await;
    assert_eq!(started["media"]["id"].as_u64(), Some(bob.media_ids[4]));
    assert_eq!(
        started["media"]["properties"]["kind"].as_str(),
        Some("audio")
    );
    let foreign = alice.room.call("StartMedia", start(bob.media_ids[0])).await;
    assert_eq!(foreign.unwrap_err(), "media not found");
    bob.room.socket.close(None).await.unwrap();
    assert_eq!(
        alice.room.update("PeerLeft").await["peer_id"].as_u64(),
        Some(bob.peer)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_clients_pause_medias_and_move_in_three_dimensions() {
    let world = World::start().await;
    let mut alice = world.member("lobby", "alice").await;
    let mut bob = world.member("lobby", "bob").await;
    let media = |id: u64| map([("media_id", id.into())]);
    bob.room
        .call("StartMedia", media(bob.media_ids[0]))
        .await
        .unwrap();
    alice.room.update("MediaStarted").await;
    alice
        .room
        .call("PauseMedia", media(bob.media_ids[0]))
        .await
        .unwrap();
    alice
        .room
        .call("ResumeMedia", media(bob.media_ids[0]))
        .await
        .unwrap();
    let own = bob.room.call("PauseMedia", media(bob.media_ids[0])).await;
    assert_eq!(own.unwrap_err(), "media not found");

    for (position, is_far) in [
        (&[0.0, 0.0, 1.5][..], true),
        (&[0.0, 0.0, 0.5], false),
        (&[0.0, 2.0], true),
        (&[0.25, 0.25], false),
    ] {
        bob.room
            .call("SetPeerPosition", map([("position", place(position))]))
            .await
            .unwrap();
        let kind = if is_far { "PeerLeft" } else { "PeerJoined" };
        alice.room.update(kind).await;
        let message = map([("message", Value::Binary(vec![1]))]);
        bob.room.call("SendMessage", message).await.unwrap();
        let received = alice.room.update("MessageReceived").await;
        assert_eq!(
            received["sender_peer_id"].as_u64(),
            Some(bob.peer),
            "near or far"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_answered() {
    let world = World::start().await;
    let mut main = world.open("/main").await.unwrap();
    for (method, params, error) in [
        ("Nothing", map([]), "unknown method"),
        (
            "JoinRoom",
            map([("room_id", "lobby".into())]),
            "not authenticated",
        ),
        (
            "SetupWebRtc",
            map([("sdp", "v=0".into())]),
            "not authenticated",
        ),
        (
            "Authenticate",
            map([("token", "a.b".into())]),
            "token must have three segments",
        ),
        ("Authenticate", Value::from(5), "params must be a map"),
        (
            "Authenticate",
            Value::Nil,
            "invalid params: token is missing",
        ),
    ] {
        assert_eq!(
            main.call(method, params).await.unwrap_err(),
            error,
            "{method}"
        );
    }
    let token = world.token_for("lobby", "alice");
    let rooms = main
        .call("Authenticate", map([("token", token.as_str().into())]))
        .await
        .unwrap();
    assert_eq!(rooms["room_ids"], Value::Array(vec!["lobby".into()]));
    let again = main
        .call("Authenticate", map([("token", token.as_str().into())]))
        .await;
    assert_eq!(again.unwrap_err(), "already authenticated");
    let sdp = main
        .call("SetupWebRtc", map([("sdp", "m=audio 9".into())]))
        .await;
    assert_eq!(
        sdp.unwrap_err(),
        "the offer must be one data channel and nothing else"
    );
    let other = main.join("other", b"", [0.0; 3]).await;
    assert_eq!(other.unwrap_err(), "the token does not open this room");
    let stream = main.join("lobby", b"", [0.0; 3]).await.unwrap();
    let twice = main.join("lobby", b"", [0.0; 3]).await;
    assert_eq!(twice.unwrap_err(), "already in this room");
    let mut alice = world.enter(main, &stream).await;
    let unknown = alice.room.call("Nothing", map([])).await;
    assert_eq!(unknown.unwrap_err(), "unknown method");
    assert_eq!(
        world.open(&format!("/room?{stream}")).await.err(),
        Some(404),
        "a stream is opened once"
    );
    assert_eq!(world.open("/room").await.err(), Some(404));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_open_several_rooms() {
    let world = World::start_with("[limit]\nmax_rooms = 2\n").await;
    let token = world.token(&serde_json::json!({"rid": ["a", "b", "c"], "uid": "alice", "cid": "acme", "nsp": "studio"}));
    let mut main = world.authenticated(&token).await;
    let first = main.join("a", b"", [0.0; 3]).await.unwrap();
    let second = main.join("b", b"", [0.0; 3]).await.unwrap();
    assert_eq!(
        main.join("c", b"", [0.0; 3]).await.unwrap_err(),
        "room limit exceeded"
    );
    let mut a = world.enter(main, &first).await;
    assert_eq!(a.joined["room"]["customer"].as_str(), Some("acme"));
    let mut b = world.open(&format!("/room?{second}")).await.unwrap();
    b.update("Joined").await;
    b.socket.close(None).await.unwrap();
    // One room is left, and the main stream lives on.
    world.settles("sfu_rooms", "", 1.0).await;
    a.main.socket.close(None).await.unwrap();
    assert!(
        a.room.closed().await.is_some(),
        "the end of the main stream is the end of all"
    );
    world.settles("sfu_rooms", "", 0.0).await;
    world.settles("sfu_clients", "", 0.0).await;
    world.stop().await;
}
