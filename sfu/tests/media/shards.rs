//! Several shards behind one port: packets that the kernel brings to the wrong one, rooms of one client on two.

use futures::future::{join, join_all};
use gateway_api::RoomId;

use crate::{caller::start_last_media, client::map, packet::packet, voice::Way, world::World};

impl World {
    async fn with_shards(shards: usize) -> Self {
        Self::start_with(&format!("[http]\nshards = {shards}\n")).await
    }
}

/// A name of a room on this one of two shards.
fn room_on(shard: u8) -> String {
    let is_there = |name: &String| {
        let id = RoomId::from((String::new(), name.clone()));
        id.hash().as_bytes()[1] % 2 == shard
    };
    let mut names = (0..).map(|number| format!("room-{number}"));
    names.find(is_there).expect("half of the names")
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_shards_carries_voice() {
    for shards in [1, 2, 4] {
        let world = World::with_shards(shards).await;
        // So many that the kernel brings some to a shard that is not theirs, however it chooses.
        let rooms = ["a", "b", "c", "d", "e", "f"];
        let pair = |room| join(world.caller(room, "first"), world.caller(room, "second"));
        let mut pairs = join_all(rooms.iter().copied().map(pair)).await;
        for _ in 0..5 {
            for (first, second) in &mut pairs {
                first.is_heard_by(&[second]).await;
                second.is_heard_by(&[first]).await;
            }
        }
        assert_eq!(world.drops("queue_full").await, 0.0, "{shards} shards");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn voice_crosses_between_the_shards_of_a_clients_rooms() {
    let world = World::with_shards(2).await;
    let (here, there) = (room_on(0), room_on(1));
    let mut alice = world.caller(&here, "alice").await;
    let mut carol = world.caller(&there, "carol").await;
    // The session of one is on the shard of the one room, that of the other on the other's.
    let mut wanderers = Vec::new();
    for (rooms, user) in [([&here, &there], "bob"), ([&there, &here], "dave")] {
        let (mut main, voice) = world.wanderer(&rooms.map(String::as_str), user).await;
        let first = main.join(&here, b"", [0.0; 3]).await.expect("let in");
        let second = main.join(&there, b"", [0.0; 3]).await.expect("let in");
        let mut member = world.enter(main, &first).await;
        let in_here = start_last_media(&mut member).await;
        let mut room = world.open(&format!("/room?{second}")).await.expect("open");
        let joined = room.update("Joined").await;
        let in_there = joined["media_ids"][4].as_u64().expect("five medias");
        let start = map([("media_id", in_there.into())]);
        room.call("StartMedia", start).await.expect("its own");
        voice.opened().await;
        wanderers.push((voice, [in_here, in_there], member, room));
    }
    for sequence in 0..20 {
        for talker in [&mut alice, &mut carol] {
            let bytes = talker.talk().await;
            for (voice, ..) in &wanderers {
                assert_eq!(voice.hears_up_to(&bytes).await.len(), 1);
            }
        }
        for at in [0, 1] {
            let (talking, medias, ..) = &wanderers[at];
            let (listening, ..) = &wanderers[1 - at];
            for (media, resident) in medias.iter().zip([&alice, &carol]) {
                let bytes = packet(*media, sequence);
                talking.send(&bytes).await;
                assert_eq!(listening.hears_up_to(&bytes).await.len(), 1);
                assert_eq!(resident.voice.hears_up_to(&bytes).await.len(), 1);
            }
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_families_of_addresses_hear_each_other() {
    let both = "[http]\nwebrtc_binding = \"[::]:0\"\nwebrtc_candidates = [\"::1\", \"127.0.0.1\"]\nshards = 2\n";
    let world = World::start_with(both).await;
    let from = |address: &str| Way::From(address.parse().expect("an address"));
    let mut alice = world.caller_by(from("[::1]:0"), "lobby", "alice").await;
    let mut bob = world.caller_by(from("127.0.0.1:0"), "lobby", "bob").await;
    for _ in 0..10 {
        alice.is_heard_by(&[&bob]).await;
        bob.is_heard_by(&[&alice]).await;
    }
    world.stop().await;
}
