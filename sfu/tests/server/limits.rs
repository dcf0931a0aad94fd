//! Every limit of the settings and of the protocol, at it and beyond it.

use std::time::Duration;

use rmpv::Value;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    client::{Stream, map, place},
    world::World,
};

async fn authenticate(world: &World, user: &str) -> (Stream, Result<Value, String>) {
    let mut main = world.open("/main").await.expect("a main stream");
    let token = world.token(&json!({"rid": ["a", "b", "c"], "uid": user}));
    let result = main
        .call("Authenticate", map([("token", token.into())]))
        .await;
    (main, result)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_rooms_peers_and_medias_are_limited() {
    let world = World::start_with(
        "[limit]\nmax_clients = 3\nmax_rooms = 2\nmax_peers = 3\n[limit.peer]\nmedias = 2\n",
    )
    .await;
    let mut inside = Vec::new();
    for user in ["1", "2", "3"] {
        let (main, result) = authenticate(&world, user).await;
        result.expect("within the limit");
        inside.push(main);
    }
    let (mut fourth, refused) = authenticate(&world, "4").await;
    assert_eq!(refused.unwrap_err(), "client limit exceeded");

    let join = async |main: &mut Stream, room: &str| main.join(room, b"", [0.0; 3]).await;
    let first = join(&mut inside[0], "a").await.unwrap();
    join(&mut inside[0], "b").await.unwrap();
    assert_eq!(
        join(&mut inside[1], "c").await.unwrap_err(),
        "room limit exceeded"
    );
    join(&mut inside[1], "b").await.unwrap();
    assert_eq!(
        join(&mut inside[2], "a").await.unwrap_err(),
        "peer limit exceeded"
    );

    // Whoever goes makes place for others.
    let mut gone = world.enter(inside.remove(0), &first).await;
    assert_eq!(gone.media_ids.len(), 2);
    gone.goes().await;
    world.settles("sfu_clients", "", 2.0).await;
    let token = world.token(&json!({"rid": "c", "uid": "4"}));
    fourth
        .call("Authenticate", map([("token", token.into())]))
        .await
        .unwrap();
    join(&mut fourth, "c").await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_messages_and_names_may_have_their_size_and_not_a_byte_more() {
    const DATA: usize = 16 * 1024;
    const MESSAGE: usize = 32 * 1024;
    const NAME: usize = 1024;
    let world = World::start().await;
    let data = |bytes: usize| map([("user_data", Value::Binary(vec![1; bytes]))]);
    let message = |bytes: usize| map([("message", Value::Binary(vec![1; bytes]))]);
    let mut alice = world.member("room", "alice").await;
    let mut bob = world.member("room", "bob").await;
    for (method, name, params, most) in [
        (
            "UpdatePeer",
            "user_data",
            &data as &dyn Fn(usize) -> Value,
            DATA,
        ),
        ("UpdateRoom", "user_data", &data, DATA),
        ("SendMessage", "message", &message, MESSAGE),
    ] {
        bob.room.call(method, params(most)).await.unwrap();
        let refused = bob.room.call(method, params(most + 1)).await;
        assert_eq!(
            refused.unwrap_err(),
            format!("invalid params: {name} is too large"),
            "{method}"
        );
    }
    let heard = alice.room.update("MessageReceived").await;
    assert_eq!(heard["message"].as_slice().unwrap().len(), MESSAGE);

    let long = "r".repeat(NAME);
    let token = world.token(&json!({"rid": [long, "x"], "uid": "u".repeat(NAME)}));
    let mut main = world.authenticated(&token).await;
    let stream = main.join(&long, &vec![0; DATA], [0.0; 3]).await.unwrap();
    let carol = world.enter(main, &stream).await;
    assert_eq!(carol.joined["room"]["id"].as_str(), Some(long.as_str()));
    for (room, data, error) in [
        (
            "r".repeat(NAME + 1),
            0,
            "invalid params: room_id is too long",
        ),
        (
            "x".to_owned(),
            DATA + 1,
            "invalid params: user_data is too large",
        ),
    ] {
        let mut main = world.authenticated(&token).await;
        let refused = main.join(&room, &vec![0; data], [0.0; 3]).await;
        assert_eq!(refused.unwrap_err(), error);
    }
    for claims in [
        json!({"rid": "room", "uid": "u".repeat(NAME + 1)}),
        json!({"rid": "room", "uid": "u", "cid": "c".repeat(NAME + 1)}),
    ] {
        let mut main = world.open("/main").await.unwrap();
        let token = world.token(&claims);
        let refused = main
            .call("Authenticate", map([("token", token.into())]))
            .await;
        assert_eq!(refused.unwrap_err(), "too long a name in token");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_none_are_refused() {
    let world = World::start().await;
    let mut bob = world.member("room", "bob").await;
    let infinite = |number: f64| Value::Array(vec![Value::F64(number), 0.into()]);
    for (params, error) in [
        (
            map([("position", infinite(f64::NAN))]),
            "position must be finite",
        ),
        (
            map([("position", infinite(f64::INFINITY))]),
            "position must be finite",
        ),
        (
            map([("position", place(&[0.0]))]),
            "position must have two or three numbers",
        ),
        (
            map([("position", place(&[0.0; 4]))]),
            "position must have two or three numbers",
        ),
        (
            map([("position", Value::Array(vec!["a".into(), "b".into()]))]),
            "position is no such number",
        ),
        (
            map([("position", 1.into())]),
            "position must be a list of numbers",
        ),
        (map([]), "position is missing"),
    ] {
        let refused = bob.room.call("SetPeerPosition", params).await;
        assert_eq!(refused.unwrap_err(), format!("invalid params: {error}"));
    }
    for id in [0_u64, 1, 127, 65_536, u64::MAX] {
        let refused = bob
            .room
            .call(
                "StartMedia",
                map([("media_id", id.into()), ("properties", map([]))]),
            )
            .await;
        assert_eq!(refused.unwrap_err(), "media not found", "{id}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_no_room_is_closed_after_its_last_room_and_not_before_its_first() {
    const TIME: Duration = Duration::from_millis(600);
    let world = World::start_with("[http]\nno_peers_timeout = 600\n").await;
    let mut waiting = world
        .authenticated(&world.token_for("room", "waiting"))
        .await;
    sleep(TIME * 2).await;
    assert_eq!(
        waiting.call("Nothing", map([])).await.unwrap_err(),
        "unknown method"
    );

    let mut member = world.member("room", "eve").await;
    member.room.socket.close(None).await.unwrap();
    world.settles("sfu_peers", "", 0.0).await;
    let began = Instant::now();
    // Calls do not keep a client that is in no room.
    let closed = loop {
        let call = member.main.send("Nothing", map([])).await;
        sleep(Duration::from_millis(50)).await;
        let answer = timeout(TIME * 3, member.main.frame())
            .await
            .expect("an answer or the end");
        if answer.is_none() {
            break began.elapsed();
        }
        assert!(call < 100, "it stays");
    };
    assert!(closed < TIME * 2, "{closed:?}");

    // Whoever comes back in time stays.
    let mut member = world.member("room", "back").await;
    member.room.socket.close(None).await.unwrap();
    world.settles("sfu_peers", "", 0.0).await;
    let stream = member.main.join("room", b"", [0.0; 3]).await.unwrap();
    let mut back = world.enter(member.main, &stream).await;
    sleep(TIME * 2).await;
    assert_eq!(
        back.main.call("Nothing", map([])).await.unwrap_err(),
        "unknown method"
    );
    world.stop().await;
}

/// Frames in which a peer hears of ten updates that come one after the other.
async fn frames_of_ten_updates(bundle_ms: u64) -> usize {
    const UPDATES: usize = 10;
    let world = World::start_with(&format!("[internal]\nbundle_events = {bundle_ms}\n")).await;
    let mut alice = world.member("room", "alice").await;
    let mut bob = world.member("room", "bob").await;
    alice.room.update("PeerJoined").await;
    sleep(Duration::from_millis(bundle_ms + 50)).await;
    for number in 0..UPDATES {
        let data = Value::Binary(vec![number as u8]);
        bob.room
            .call("UpdateRoom", map([("user_data", data)]))
            .await
            .expect("an update that may be made");
    }
    let (mut frames, mut updates) = (0, Vec::new());
    while updates.len() < UPDATES {
        let frame = alice.room.frame().await.expect("alice stays");
        frames += 1;
        let heard = frame[2]["updates"].as_array().expect("updates").clone();
        updates.extend(
            heard
                .iter()
                .map(|it| it["user_data"].as_slice().expect("data")[0]),
        );
    }
    assert!(updates.is_sorted(), "in their order: {updates:?}");
    world.stop().await;
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_bundled_for_as_long_as_the_settings_say() {
    // Two that come within one round of the shard go together.
    let single = Box::pin(frames_of_ten_updates(0)).await;
    assert!(single > 5, "each by itself: {single}");
    let bundled = Box::pin(frames_of_ten_updates(500)).await;
    assert!(
        (2..=3).contains(&bundled),
        "the first at once, the others together: {bundled}"
    );
}
