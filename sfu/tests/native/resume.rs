//! Native clients that lose their connection: back in time, they were never away.

use std::{net::UdpSocket, time::Duration};

use rmpv::Value;

use crate::{
    client::{Member, Stream, map},
    packet::packet,
    world::World,
};

/// The server does not listen to a client's second address, and soon takes the client for lost.
const DEAF: &str = "migration = false\nidle_timeout = 600\nkeep_alive_interval = 200";

/// A client's connection goes silent without a word.
fn cut(member: &Member) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    member.endpoint.rebind(socket).expect("a socket");
}

impl World {
    /// A client whose place is kept, and its key.
    async fn resumable(&self, room: &str, user: &str) -> (Member, String) {
        self.enter(room, user, "JoinRoom", ("resumable", true.into()))
            .await
            .expect("let in")
    }

    /// A new connection that goes on as the peer of this key, and the next key.
    async fn back(&self, room: &str, user: &str, key: &str) -> Result<(Member, String), String> {
        self.enter(room, user, "ResumeRoom", ("resume_key", key.into()))
            .await
    }

    async fn enter(
        &self,
        room: &str,
        user: &str,
        method: &str,
        how: (&str, Value),
    ) -> Result<(Member, String), String> {
        let (endpoint, session) = self.session().await;
        let mut main = Stream::open(&session).await;
        let token = map([("token", self.token(room, user).into())]);
        main.call("Authenticate", token).await?;
        let answer = main
            .call(method, map([("room_id", room.into()), how]))
            .await?;
        let text = |name: &str| answer[name].as_str().expect("a text").to_owned();
        let mut stream = Stream::open(&session).await;
        stream.send_frame(text("stream_id").as_bytes()).await;
        let joined = stream.update("Joined").await;
        let media = joined["media_ids"][0].as_u64().expect("a media");
        if method == "JoinRoom" {
            let params = map([("media_id", media.into()), ("properties", map([]))]);
            stream.call("StartMedia", params).await?;
        }
        let member = Member {
            endpoint,
            session,
            main,
            room: stream,
            peer: joined["own_peer_id"].as_u64().expect("an id"),
            media,
        };
        Ok((member, text("resume_key")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_back_in_time_was_never_away() {
    let world = World::start(DEAF, "[limit.peer]\nresume_grace = 60000").await;
    let mut alice = world.member("hall", "alice").await;
    let (bob, key) = world.resumable("hall", "bob").await;
    cut(&bob);
    world.settles("sfu_lost_peers", "", 1.0).await;
    let (again, next) = world.back("hall", "bob", &key).await.expect("back");
    assert_eq!((again.peer, again.media), (bob.peer, bob.media));
    assert_ne!(next, key);
    let used = world.back("hall", "bob", &key).await.err();
    assert_eq!(used.as_deref(), Some("nothing to resume"));
    let sent = packet(again.media, 1);
    again
        .session
        .send_datagram(sent.clone().into())
        .expect("sent");
    assert_eq!(alice.heard().await, sent, "its media is still started");
    let sent = packet(alice.media, 1);
    alice
        .session
        .send_datagram(sent.clone().into())
        .expect("sent");
    assert_eq!(again.heard().await, sent);
    assert!(!alice.room.has_heard("PeerLeft").await);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_not_back_in_time_leaves_once() {
    let world = World::start(DEAF, "[limit.peer]\nresume_grace = 100").await;
    let mut alice = world.member("hall", "alice").await;
    let (bob, key) = world.resumable("hall", "bob").await;
    cut(&bob);
    let left = alice.room.update("PeerLeft").await;
    assert_eq!(left["peer_id"].as_u64(), Some(bob.peer));
    let late = world.back("hall", "bob", &key).await.err();
    assert_eq!(late.as_deref(), Some("nothing to resume"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!alice.room.has_heard("PeerLeft").await, "once");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_still_lives_gives_way_to_the_new_one() {
    let world = World::start("", "").await;
    let mut alice = world.member("hall", "alice").await;
    let (mut bob, key) = world.resumable("hall", "bob").await;
    let (again, _) = world.back("hall", "bob", &key).await.expect("back");
    let left = bob.room.update("Left").await;
    assert_eq!(left["reason"].as_str(), Some("resumed"));
    assert_eq!(bob.room.frame().await, None);
    // What the old connection says is nobody's any more.
    let old = packet(bob.media, 1);
    // A connection that is closed by now says nothing either.
    let _ = bob.session.send_datagram(old.into());
    let sent = packet(again.media, 2);
    again
        .session
        .send_datagram(sent.clone().into())
        .expect("sent");
    assert_eq!(alice.heard().await, sent);
    assert!(!alice.room.has_heard("PeerLeft").await);
    world.stop().await;
}
