//! How sessions and streams begin and end.

use std::time::Duration;

use web_transport_quinn::{SessionError, WebTransportError, proto::ConnectRequest};

use crate::{
    client::{Stream, map},
    world::{PATIENCE, World, endpoint},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_who_closes_its_session_is_gone_at_once() {
    let world = World::start("", "").await;
    let mut alice = world.member("hall", "alice").await;
    let bob = world.member("hall", "bob").await;
    let came = alice.room.update("PeerJoined").await;
    assert_eq!(came["peer"]["id"].as_u64(), Some(bob.peer));
    world.settles("sfu_peers", "quic", 2.0).await;
    bob.session.close(0, b"bye");
    let left = alice.room.update("PeerLeft").await;
    assert_eq!(left["peer_id"].as_u64(), Some(bob.peer));
    world.settles("sfu_clients", "quic", 1.0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_finishes_a_rooms_stream_leaves_that_room_and_then_has_no_business_here() {
    let world = World::start("no_peers_timeout = 100", "").await;
    let mut alice = world.member("hall", "alice").await;
    let mut bob = world.member("hall", "bob").await;
    bob.room.send.finish().expect("an open stream");
    let left = alice.room.update("PeerLeft").await;
    assert_eq!(left["peer_id"].as_u64(), Some(bob.peer));
    assert_eq!(bob.main.frame().await, None);
    let closed = bob.session.closed().await;
    let SessionError::WebTransportError(WebTransportError::Closed(code, reason)) = closed else {
        panic!("{closed}");
    };
    assert_eq!((code, reason.as_str()), (1_000, "in no room"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_says_so_to_everybody() {
    let mut world = World::start("", "").await;
    let mut alice = world.member("hall", "alice").await;
    world.end();
    let left = alice.room.update("Left").await;
    assert_eq!(left["reason"].as_str(), Some("server_closing"));
    assert_eq!(alice.room.frame().await, None, "the stream is finished");
    let closed = alice.session.closed().await.to_string();
    assert!(closed.contains("1001"), "{closed}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_session_is_refused() {
    let world = World::start("connect_timeout = 300", "").await;
    let connect = async |path: &str| {
        let endpoint = endpoint(&world.certificate);
        let connection = endpoint.connect(world.quic, "localhost").expect("a name");
        let connection = connection.await.expect("a connection");
        let url = url::Url::parse(&format!("https://localhost{path}")).expect("a URL");
        let session = web_transport_quinn::Session::connect(connection, ConnectRequest::new(url));
        session.await.err().map(|error| error.to_string())
    };
    let refused = connect("/elsewhere").await.expect("refused");
    assert!(
        refused.contains("404") || refused.contains("200"),
        "{refused}"
    );
    assert_eq!(connect("/main").await, None);

    // One that never asks for a session has the time of `connect_timeout`.
    let endpoint = endpoint(&world.certificate);
    let idle = endpoint.connect(world.quic, "localhost").expect("a name");
    let idle = idle.await.expect("a connection");
    let closed = tokio::time::timeout(PATIENCE, idle.closed()).await;
    assert!(
        closed.expect("closed").to_string().contains("256"),
        "H3_NO_ERROR"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_named_are_reset_and_voice_is_not_set_up() {
    let world = World::start("", "").await;
    let mut alice = world.member("hall", "alice").await;
    let mut stream = Stream::open(&alice.session).await;
    stream.send_frame(b"no such name").await;
    assert_eq!(stream.frame().await, None);
    let params = map([("sdp", "v=0".into())]);
    let refused = alice.main.call("SetupWebRtc", params).await.unwrap_err();
    assert!(refused.contains("over this connection"), "{refused}");
    assert!(!alice.room.has_heard("Left").await, "nothing else happened");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_opens_nothing_and_no_token_at_all() {
    let world = World::start("", "").await;
    let (_endpoint, session) = world.session().await;
    let mut main = Stream::open(&session).await;
    let params = map([("room_id", "hall".into())]);
    let refused = main.call("JoinRoom", params.clone()).await.unwrap_err();
    assert_eq!(refused, "not authenticated");
    let bad = map([("token", "x.y.z".into())]);
    assert!(main.call("Authenticate", bad).await.is_err());
    let token = map([("token", world.token("elsewhere", "alice").into())]);
    main.call("Authenticate", token).await.expect("let in");
    let refused = main.call("JoinRoom", params).await.unwrap_err();
    assert_eq!(refused, "the token does not open this room");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(session.close_reason().is_none());
    world.stop().await;
}
