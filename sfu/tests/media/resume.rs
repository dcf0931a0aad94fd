//! Voice of a peer that comes back.

use crate::{
    caller::start_last_media,
    packet::packet,
    voice::{Voice, Way},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_comes_back_talks_and_hears_over_its_new_connection_alone() {
    let world = World::start_with("[limit.peer]\nresume_grace = 60000\n[http]\nshards = 2\n").await;
    let mut alice = world.caller("lobby", "alice").await;
    // The second time its session is on another shard than the room, or than the first one was.
    let token = |rooms: [&str; 2]| {
        world.token(&serde_json::json!({"rid": rooms, "uid": "bob", "aud": "sfu"}))
    };
    let tokens = [
        token(["lobby", "a"]),
        token(["a", "lobby"]),
        token(["b", "lobby"]),
        token(["c", "lobby"]),
    ];
    let mut main = world.authenticated(&tokens[0]).await;
    let first = Voice::set_up(&mut main, Way::Direct).await;
    let (stream, mut key) = main.join_resumable("lobby", "bob").await;
    let mut bob = world.enter(main, &stream).await;
    let media = start_last_media(&mut bob).await;
    first.opened().await;
    let mut voices = vec![first];
    let mut sequence = 0;
    for token in tokens.iter().cycle().skip(1).take(6) {
        // Every other time the first connection is still there when the second one comes.
        let was_lost = sequence % 2 == 0;
        let kept = match was_lost {
            true => {
                drop(bob);
                world.settles("sfu_lost_peers", "", 1.0).await;
                // Nobody is told, and nobody hears it.
                alice.talk_to(&world).await;
                None
            }
            false => Some(bob),
        };
        let mut main = world.authenticated(token).await;
        let voice = Box::pin(Voice::set_up(&mut main, Way::Direct)).await;
        let (stream, next) = main.resume("lobby", &key).await.expect("a good key");
        bob = world.enter(main, &stream).await;
        key = next;
        voice.opened().await;
        sequence += 1;
        let bytes = packet(media, sequence);
        voice.send(&bytes).await;
        assert_eq!(alice.voice.hears_up_to(&bytes).await.len(), 1);
        let bytes = alice.talk().await;
        assert_eq!(voice.hears_up_to(&bytes).await.len(), 1);
        if let Some(mut kept) = kept {
            // The old client is still connected, and is not the peer any more.
            kept.room.update("Left").await;
            let before = world.drops("foreign_media").await + world.drops("no_room").await;
            let old = voices.last().expect("there is one");
            old.send(&packet(media, sequence + 100)).await;
            let dropped =
                async || world.drops("foreign_media").await + world.drops("no_room").await;
            while dropped().await < before + 1.0 {
                tokio::task::yield_now().await;
            }
            let bytes = alice.talk().await;
            assert_eq!(voice.hears_up_to(&bytes).await.len(), 1);
            assert_eq!((old.heard(), alice.voice.heard()), (0, 0));
        }
        voices.push(voice);
    }
    world.stop().await;
}
