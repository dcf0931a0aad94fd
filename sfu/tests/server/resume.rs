//! Peers that lose their connection and come back, or do not.

mod gone;

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use rmpv::Value;
use serde_json::json;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::{
    client::{Member, Stream, Way, map, packed},
    connections::Wire,
    grid::Gateway,
    world::{PATIENCE, World},
};

/// Nothing here waits for the end of this grace.
const LONG: &str = "[limit.peer]\nresume_grace = 60000\n";

/// Nobody comes back in this one.
const SHORT: &str = "[limit.peer]\nresume_grace = 100\n";

const NOTHING: &str = "nothing to resume";

const NORMAL: Option<u16> = Some(1000);

impl World {
    /// A client in the room "lobby" whose place is kept, and its key.
    async fn resumable(&self, user: &str) -> (Member, String) {
        let mut main = self.authenticated(&self.token_for("lobby", user)).await;
        let (stream, key) = main.join_resumable("lobby", user).await;
        (self.enter(main, &stream).await, key)
    }

    /// A new connection that goes on as the peer of this key, and the next key.
    async fn back(&self, user: &str, key: &str) -> (Member, String) {
        let mut main = self.authenticated(&self.token_for("lobby", user)).await;
        let (stream, key) = main.resume("lobby", key).await.expect("a good key");
        (self.enter(main, &stream).await, key)
    }

    /// Waits until so many peers are lost.
    async fn lost(&self, peers: u32) {
        self.settles("sfu_lost_peers", "", peers.into()).await;
    }

    async fn try_to_resume(&self, user: &str, key: &str) -> Result<Way, String> {
        let mut main = self.authenticated(&self.token_for("lobby", user)).await;
        main.resume("lobby", key).await
    }

    async fn expired(&self) -> f64 {
        self.count("sfu_expired_peers_total", "").await
    }
}

async fn close_with(stream: &mut Stream, code: CloseCode) {
    let frame = CloseFrame {
        code,
        reason: "".into(),
    };
    let closed = stream.socket.close(Some(frame)).await;
    closed.expect("an open stream");
}

/// Nobody has come or gone, as far as this one was told since it looked last.
async fn noticed_nothing(member: &mut Member) {
    for kind in ["PeerLeft", "PeerJoined", "Left"] {
        assert!(!member.room.has_heard(kind).await, "{kind}");
    }
}

async fn is_left_by(member: &mut Member, peer: u64) {
    let left = member.room.update("PeerLeft").await;
    assert_eq!(left["peer_id"].as_u64(), Some(peer));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_back_in_time_was_never_away() {
    let world = World::start_with(LONG).await;
    let mut alice = world.member("lobby", "alice").await;
    let (mut bob, mut key) = world.resumable("bob").await;
    let media = |id: u64| map([("media_id", id.into())]);
    let [of_alice, of_bob] = [&alice, &bob].map(|it| it.media_ids[0]);
    alice.room.update("PeerJoined").await;
    let started = alice.room.call("StartMedia", media(of_alice)).await;
    started.unwrap();
    bob.room.call("StartMedia", media(of_bob)).await.unwrap();
    alice.room.update("MediaStarted").await;
    bob.room.update("MediaStarted").await;
    let paused = bob.room.call("PauseMedia", media(of_alice)).await;
    paused.unwrap();
    let (peer, media_ids) = (bob.peer, bob.media_ids.clone());
    for round in 1..=3_u8 {
        drop(bob);
        world.lost(1).await;
        assert_eq!(world.count("sfu_peers", "").await, 2.0, "it counts");
        alice.says(&[round, 1]).await;
        let update = map([("user_data", Value::Binary(vec![round]))]);
        alice.room.call("UpdatePeer", update).await.unwrap();
        alice.says(&[round, 2]).await;
        let used = key.clone();
        (bob, key) = world.back("bob", &key).await;
        assert_ne!(key, used);
        assert_eq!((bob.peer, &bob.media_ids), (peer, &media_ids));
        // What happened is in the first frame, and what was said comes behind it.
        let [known] = &bob.joined["room"]["peers"].as_array().unwrap()[..] else {
            panic!("alice alone: {}", bob.joined)
        };
        assert_eq!(known["id"].as_u64(), Some(alice.peer));
        assert_eq!(known["user_data"], Value::Binary(vec![round]));
        assert_eq!(known["medias"][0]["id"].as_u64(), Some(of_alice));
        assert_eq!(known["medias"][0]["paused"].as_bool(), Some(true));
        for number in 1..=2 {
            let (method, said) = bob.room.notification().await.unwrap();
            assert_eq!(method, "MessageReceived");
            assert_eq!(said["message"], Value::Binary(vec![round, number]));
        }
        noticed_nothing(&mut alice).await;
        bob.says(&[round]).await;
        let said = alice.room.update("MessageReceived").await;
        assert_eq!(said["sender_peer_id"].as_u64(), Some(peer));
        let again = world.try_to_resume("bob", &used).await;
        assert_eq!(again.unwrap_err(), NOTHING, "a key is used once");
        world.lost(0).await;
        let resumed = world.count("sfu_resumed_peers_total", "").await;
        assert_eq!(resumed, f64::from(round));
    }
    // Its media still runs: it is told of when it ends.
    bob.room.call("StopMedia", media(of_bob)).await.unwrap();
    alice.room.update("MediaStopped").await;
    bob.goes().await;
    is_left_by(&mut alice, peer).await;
    alice.goes().await;
    world.everybody_is_gone().await;
    assert_eq!(world.expired().await, 0.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_back_in_time_leaves_once() {
    let world = World::start_with(SHORT).await;
    let mut alice = world.member("lobby", "alice").await;
    let (bob, key) = world.resumable("bob").await;
    let peer = bob.peer;
    drop(bob);
    is_left_by(&mut alice, peer).await;
    let late = world.try_to_resume("bob", &key).await;
    assert_eq!(late.unwrap_err(), NOTHING);
    let bob = world.member("lobby", "bob").await;
    assert_ne!(bob.peer, peer);
    alice.room.update("PeerJoined").await;
    noticed_nothing(&mut alice).await;
    world.lost(0).await;
    assert_eq!(world.expired().await, 1.0);
    world.settles("sfu_peers", "", 2.0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_is_a_lost_one() {
    let http = "[http]\ntimeout = 1000\nping_interval = 300\n";
    let mut world = World::start_with(&format!("{http}{LONG}")).await;
    let direct = world.http;
    let wire = Wire::to(direct).await;
    let mut alice = world.member("lobby", "alice").await;
    world.http = wire.address;
    let (bob, key) = world.resumable("bob").await;
    world.http = direct;
    alice.room.update("PeerJoined").await;
    wire.cut();
    let began = Instant::now();
    while world.count("sfu_lost_peers", "").await < 1.0 {
        // Who is asked answers pings as well.
        noticed_nothing(&mut alice).await;
        alice.main.call("Nothing", map([])).await.unwrap_err();
        assert!(began.elapsed() < PATIENCE);
    }
    let (back, _) = world.back("bob", &key).await;
    assert_eq!(back.peer, bob.peer);
    noticed_nothing(&mut alice).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_still_open_ends_when_another_takes_over() {
    let world = World::start_with(LONG).await;
    let mut alice = world.member("lobby", "alice").await;
    let (mut first, key) = world.resumable("bob").await;
    alice.room.update("PeerJoined").await;
    let (mut second, key) = world.back("bob", &key).await;
    assert_eq!(first.peer, second.peer);
    let left = first.room.update("Left").await;
    assert_eq!(left["reason"].as_str(), Some("resumed"));
    assert_eq!(first.room.closed().await, NORMAL);
    // What is left of the first takes nothing with it, however it ends.
    close_with(&mut first.main, CloseCode::Normal).await;
    world.settles("sfu_clients", "", 2.0).await;
    second.says(b"here").await;
    noticed_nothing(&mut alice).await;

    // The same client, over another stream of its own.
    let (stream, _) = second.main.resume("lobby", &key).await.unwrap();
    let left = second.room.update("Left").await;
    assert_eq!(left["reason"].as_str(), Some("resumed"));
    let Member { main, room, .. } = second;
    drop(room);
    let mut third = world.enter(main, &stream).await;
    assert_eq!(third.peer, first.peer);
    third.says(b"still here").await;
    noticed_nothing(&mut alice).await;
    let twice = third.main.join("lobby", b"", [0.0; 3]).await;
    assert_eq!(twice.unwrap_err(), "already in this room");
    third.goes().await;
    is_left_by(&mut alice, third.peer).await;
    world.lost(0).await;
    alice.goes().await;
    world.everybody_is_gone().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_one_user_and_one_room() {
    let world = World::start_with(LONG).await;
    let (bob, key) = world.resumable("bob").await;
    let token = world.token(&json!({"rid": ["lobby", "other"], "uid": "bob", "aud": "sfu"}));
    let elsewhere = json!({"rid": "lobby", "uid": "bob", "aud": "sfu", "nsp": "elsewhere"});
    let mut both = world.authenticated(&token).await;
    let mut elsewhere = world.authenticated(&world.token(&elsewhere)).await;
    for is_lost in [false, true] {
        let eve = world.try_to_resume("eve", &key).await;
        assert_eq!(eve.unwrap_err(), NOTHING);
        let unknown = world.try_to_resume("bob", "AAAAAAAAAAAAAAAAAAAAAA").await;
        assert_eq!(unknown.unwrap_err(), NOTHING);
        let other = both.resume("other", &key).await;
        assert_eq!(other.unwrap_err(), NOTHING);
        let closed = both.resume("third", &key).await;
        assert_eq!(closed.unwrap_err(), "the token does not open this room");
        let namesake = elsewhere.resume("lobby", &key).await;
        assert_eq!(namesake.unwrap_err(), NOTHING);
        if !is_lost {
            continue;
        }
        // Nobody who may come back has two peers in the room.
        let stream = both.join("lobby", b"", [0.0; 3]).await.unwrap();
        let second = both.resume("lobby", &key).await;
        assert_eq!(second.unwrap_err(), "already in this room");
        drop(stream);
    }
    let peer = bob.peer;
    drop(bob);
    world.lost(1).await;
    let (bob, _) = world.back("bob", &key).await;
    assert_eq!(bob.peer, peer, "the key was not used up by all of that");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_come_back_at_once_one_does() {
    let world = World::start_with(LONG).await;
    let mut alice = world.member("lobby", "alice").await;
    let (mut bob, mut key) = world.resumable("bob").await;
    alice.room.update("PeerJoined").await;
    for is_lost in [true, false, true] {
        let token = world.token_for("lobby", "bob");
        let mut mains = [
            world.authenticated(&token).await,
            world.authenticated(&token).await,
        ];
        if is_lost {
            drop(bob);
            world.lost(1).await;
        }
        let [first, second] = &mut mains;
        let (first, second) =
            tokio::join!(first.resume("lobby", &key), second.resume("lobby", &key));
        let [first_main, second_main] = mains;
        let (way, main) = match (first, second) {
            (Ok(way), Err(error)) if error == NOTHING => (way, first_main),
            (Err(error), Ok(way)) if error == NOTHING => (way, second_main),
            other => panic!("{other:?}"),
        };
        bob = world.enter(main, &way.0).await;
        key = way.1;
        bob.says(b"here").await;
        noticed_nothing(&mut alice).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_and_opens_no_stream_may_come_back_again() {
    let world = World::start_with(LONG).await;
    let mut alice = world.member("lobby", "alice").await;
    let (bob, key) = world.resumable("bob").await;
    alice.room.update("PeerJoined").await;
    let peer = bob.peer;
    drop(bob);
    let (unopened, key) = world.try_to_resume("bob", &key).await.unwrap();
    let (bob, _) = world.back("bob", &key).await;
    assert_eq!(bob.peer, peer);
    // The first client is gone, and with it the stream that was named to it.
    assert_eq!(
        world.open(&format!("/room?{unopened}")).await.err(),
        Some(404)
    );
    noticed_nothing(&mut alice).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_come_back_at_random_and_nobody_is_lost_for_good() {
    const PEERS: usize = 8;
    let world = World::start_with(LONG).await;
    let mut alice = world.member("lobby", "alice").await;
    let seed = 5;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all = Vec::new();
    for number in 0..PEERS {
        let user = format!("user-{number}");
        let (member, key) = world.resumable(&user).await;
        alice.room.update("PeerJoined").await;
        all.push((user, member.peer, Some(member), key));
    }
    for _ in 0..60 {
        let (user, peer, member, key) = &mut all[random.usize(..PEERS)];
        match random.u8(..4) {
            // It vanishes; the server may not know yet when it comes back.
            0 => drop(member.take()),
            1 => {
                if let Some(member) = member {
                    let _ = member
                        .room
                        .socket
                        .send(Message::Ping(Vec::new().into()))
                        .await;
                }
            }
            _ => {
                let (back, next) = world.back(user, key).await;
                assert_eq!(back.peer, *peer, "seed {seed}");
                *member = Some(back);
                *key = next;
            }
        }
    }
    let mut lost = 0;
    for (user, _, member, key) in &mut all {
        if member.is_none() {
            lost += 1;
            (*member, _) = {
                let (back, next) = world.back(user, key).await;
                (Some(back), next)
            };
        }
    }
    assert!(lost > 0 && lost < PEERS, "both were tried: {lost}");
    noticed_nothing(&mut alice).await;
    world.lost(0).await;
    for (_, peer, member, _) in all {
        member.expect("it is back").goes().await;
        is_left_by(&mut alice, peer).await;
    }
    alice.goes().await;
    world.everybody_is_gone().await;
    world.stop().await;
}
