//! A client's voice connection and its rooms begin and end in any order.

use crate::{
    caller::start_last_media,
    client::Member,
    packet::packet,
    voice::{Voice, Way},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_room_may_be_entered_before_there_is_a_connection() {
    let world = World::start().await;
    let mut alice = world.caller("lobby", "alice").await;
    let mut bob = world.member("lobby", "bob").await;
    let media = start_last_media(&mut bob).await;
    alice.talk_to(&world).await;
    assert_eq!(world.drops("no_channel").await, 1.0);
    let voice = Voice::set_up(&mut bob.main, Way::Direct).await;
    voice.opened().await;
    let bytes = alice.talk().await;
    assert_eq!(voice.hears_up_to(&bytes).await.len(), 1);
    let bytes = packet(media, 7);
    voice.send(&bytes).await;
    assert_eq!(alice.voice.hears_up_to(&bytes).await.len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_takes_the_place_of_the_first() {
    let world = World::start().await;
    let mut alice = world.caller("lobby", "alice").await;
    let mut bob = world.caller("lobby", "bob").await;
    alice.is_heard_by(&[&bob]).await;
    let second = Voice::set_up(&mut bob.member.main, Way::Direct).await;
    second.opened().await;
    let first = std::mem::replace(&mut bob.voice, second);
    alice.is_heard_by(&[&bob]).await;
    bob.is_heard_by(&[&alice]).await;
    // Its end is not the end of what came after it.
    first.send(&packet(bob.media, 1)).await;
    first.close().await;
    bob.is_heard_by(&[&alice]).await;
    alice.is_heard_by(&[&bob]).await;
    assert_eq!(first.heard(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_is_heard_with_its_new_medias() {
    let world = World::start().await;
    let mut alice = world.caller("lobby", "alice").await;
    let mut bob = world.caller("lobby", "bob").await;
    let carol = world.caller("lobby", "carol").await;
    bob.is_heard_by(&[&alice, &carol]).await;
    for _ in 0..3 {
        let old = bob.media;
        bob.member.room.socket.close(None).await.expect("closed");
        alice.member.room.update("PeerLeft").await;
        // In no room nothing is heard of it, and it hears nothing.
        let before = world.drops("no_room").await;
        bob.talk_to(&world).await;
        assert_eq!(world.drops("no_room").await, before + 1.0);
        alice.is_heard_by(&[&carol]).await;

        let Member { mut main, .. } = bob.member;
        let stream = main.join("lobby", b"", [0.0; 3]).await.expect("let in");
        bob.member = world.enter(main, &stream).await;
        bob.media = start_last_media(&mut bob.member).await;
        assert_ne!(bob.media, old, "ids of before may still be under way");
        bob.voice.send(&packet(old, 1)).await;
        bob.is_heard_by(&[&alice, &carol]).await;
        alice.is_heard_by(&[&bob, &carol]).await;
    }
    assert_eq!(world.drops("foreign_media").await, 3.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_rooms_stream_is_the_end_of_its_voice() {
    let world = World::start_with("[limit]\nmax_rooms = 2\n").await;
    let mut alice = world.caller("one", "alice").await;
    let mut carol = world.caller("two", "carol").await;
    let (mut main, voice) = world.wanderer(&["one", "two"], "bob").await;
    let one = main.join("one", b"", [0.0; 3]).await.expect("let in");
    let two = main.join("two", b"", [0.0; 3]).await.expect("let in");
    let mut one = world.enter(main, &one).await;
    let mut two_stream = world
        .open(&format!("/room?{two}"))
        .await
        .expect("a stream of a room");
    let joined = two_stream.update("Joined").await;
    let in_two = joined["media_ids"][4].as_u64().expect("five medias");
    let start = crate::client::map([("media_id", in_two.into())]);
    two_stream.call("StartMedia", start).await.expect("its own");
    let in_one = start_last_media(&mut one).await;
    voice.opened().await;
    for (talker, own) in [(&mut alice, in_one), (&mut carol, in_two)] {
        let bytes = talker.talk().await;
        assert_eq!(voice.hears_up_to(&bytes).await.len(), 1);
        let bytes = packet(own, 1);
        voice.send(&bytes).await;
        assert_eq!(talker.voice.hears_up_to(&bytes).await.len(), 1);
    }

    one.room.socket.close(None).await.expect("closed");
    alice.member.room.update("PeerLeft").await;
    let before = world.count("sfu_packets_in_total", "").await;
    voice.send(&packet(in_one, 2)).await;
    alice.talk().await;
    world.counts("sfu_packets_in_total", "", before + 2.0).await;
    let bytes = carol.talk().await;
    assert_eq!(voice.hears_up_to(&bytes).await.len(), 1);
    let bytes = packet(in_two, 2);
    voice.send(&bytes).await;
    assert_eq!(carol.voice.hears_up_to(&bytes).await.len(), 1);
    assert_eq!(alice.voice.heard(), 0);
    world.stop().await;
}
