//! Peers that do not come back: they said goodbye, were made to go, or never asked to be waited for.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_goodbye_is_gone_at_once() {
    let world = World::start_with(LONG).await;
    let mut alice = world.member("lobby", "alice").await;
    for code in [CloseCode::Normal, CloseCode::Away] {
        for is_main in [true, false] {
            let (mut bob, key) = world.resumable("bob").await;
            let stream = if is_main {
                &mut bob.main
            } else {
                &mut bob.room
            };
            close_with(stream, code).await;
            is_left_by(&mut alice, bob.peer).await;
            let late = world.try_to_resume("bob", &key).await;
            assert_eq!(late.unwrap_err(), NOTHING);
        }
    }
    // Word of it counts also when the room's stream was lost before.
    let (mut bob, _) = world.resumable("bob").await;
    drop(bob.room);
    world.lost(1).await;
    close_with(&mut bob.main, CloseCode::Normal).await;
    is_left_by(&mut alice, bob.peer).await;
    // Any other end of a connection is none of the peer.
    let (mut bob, key) = world.resumable("bob").await;
    alice.room.update("PeerJoined").await;
    close_with(&mut bob.main, CloseCode::Library(4000)).await;
    world.lost(1).await;
    world.back("bob", &key).await;
    noticed_nothing(&mut alice).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_made_to_go_for_what_it_sends_has_left() {
    let world = World::start_with(LONG).await;
    let mut alice = world.member("lobby", "alice").await;
    for is_main in [true, false] {
        let (mut bob, key) = world.resumable("bob").await;
        let stream = if is_main {
            &mut bob.main
        } else {
            &mut bob.room
        };
        stream.send_bytes(vec![0xc1]).await;
        is_left_by(&mut alice, bob.peer).await;
        let late = world.try_to_resume("bob", &key).await;
        assert_eq!(late.unwrap_err(), NOTHING);
    }
    world.lost(0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_waits_for_nobody_who_is_lost() {
    let mut world = World::start_draining(LONG, Duration::from_secs(60)).await;
    let mut alice = world.member("lobby", "alice").await;
    let (mut carol, key_of_carol) = world.resumable("carol").await;
    let (bob, key) = world.resumable("bob").await;
    let peer = bob.peer;
    drop(bob);
    world.lost(1).await;
    world.end();
    is_left_by(&mut alice, peer).await;
    // Those inside have their time, but nobody comes back, and who is lost now has left.
    for key in [&key, &key_of_carol] {
        let late = carol.main.resume("lobby", key).await;
        assert_eq!(late.unwrap_err(), "server is closing");
    }
    let peer = carol.peer;
    drop(carol);
    is_left_by(&mut alice, peer).await;
    alice.goes().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_banned_while_it_is_lost_leaves_at_once() {
    let gateway = Gateway::start().await;
    let world = World::below(&gateway.internal_url).await;
    let mut alice = gateway.member(&world, "alice").await;
    let lost = async || {
        let (_, token) = gateway.connect("bob").await;
        let mut main = world.authenticated(&token).await;
        let (stream, key) = main.join_resumable("room", "bob").await;
        let bob = world.enter(main, &stream).await;
        (bob, world.authenticated(&token).await, key)
    };
    let (bob, mut main, key) = lost().await;
    let peer = bob.peer;
    drop(bob);
    world.lost(1).await;
    let user = json!({"room_id": "room", "user_id": "bob", "ban_time": 1});
    gateway.moderate("RoomBanClient", user).await;
    is_left_by(&mut alice, peer).await;
    let late = main.resume("room", &key).await;
    assert_eq!(late.unwrap_err(), NOTHING);
    world.lost(0).await;
    world.settles("sfu_peers", "", 1.0).await;
    assert_eq!(world.expired().await, 0.0, "the grace was not over");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_ask_for_it_is_gone_with_the_connection() {
    let off = "[limit.peer]\nresume_grace = 0\n";
    for (settings, params) in [
        (LONG, map([("room_id", "lobby".into())])),
        (
            LONG,
            map([("room_id", "lobby".into()), ("resumable", false.into())]),
        ),
        (
            off,
            map([("room_id", "lobby".into()), ("resumable", true.into())]),
        ),
    ] {
        let world = World::start_with(settings).await;
        let mut alice = world.member("lobby", "alice").await;
        let mut main = world.authenticated(&world.token_for("lobby", "bob")).await;
        let call = Value::Array(vec![0.into(), 7.into(), "JoinRoom".into(), params]);
        main.send_bytes(packed(&call)).await;
        let answer = main.socket.next().await.expect("an answer").unwrap();
        let Message::Binary(answer) = answer else {
            panic!("{answer}")
        };
        // Every byte as the clients of the original know it.
        let head = b"\x94\x01\x07\xc0\x81\xa9stream_id\xb6";
        assert_eq!(answer[..head.len()], head[..]);
        let name = std::str::from_utf8(&answer[head.len()..]).expect("a name");
        assert_eq!(name.len(), 22);
        let bob = world.enter(main, name).await;
        let peer = bob.peer;
        drop(bob);
        is_left_by(&mut alice, peer).await;
        world.lost(0).await;
        world.stop().await;
    }
}
