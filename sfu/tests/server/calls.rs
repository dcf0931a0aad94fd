//! Too many calls, rooms that nobody enters, and tokens that are none.

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    abuse::is_open,
    bystanders::Answered,
    client::map,
    world::{ANY_RATE, World},
};

/// A close code of RFC 6455.
const POLICY: Option<u16> = Some(1008);

#[tokio::test(flavor = "multi_thread")]
async fn whoever_calls_too_often_waits_then_is_refused_then_has_to_go() {
    let world = World::start_with(
        "[limit.peer]\nincoming_messages = { rate = 20, capacity = 8, overflow = 5 }\n",
    )
    .await;
    for is_room in [false, true] {
        let mut member = world.member("room", "eve").await;
        // What it took to get here is forgotten.
        sleep(Duration::from_millis(450)).await;
        let stream = if is_room {
            &mut member.room
        } else {
            &mut member.main
        };
        let (answers, code) = stream.flood(20).await;
        assert_eq!((answers.len(), code), (20, None));
        let refused = |answer: &&Answered| answer.error.as_deref() == Some("too many calls");
        let count = answers.iter().filter(refused).count();
        assert!(
            (5..=7).contains(&count),
            "8 at once, 5 late, and a few got in meanwhile: {count}"
        );
        let passed: Vec<_> = answers.iter().filter(|answer| !refused(answer)).collect();
        let last = passed.last().unwrap().after.as_millis();
        assert!((150..2_000).contains(&last), "delayed by {last} ms");
        assert!(
            passed.is_sorted_by_key(|answer| answer.id),
            "in their order"
        );

        let (_, code) = stream.flood(100_000).await;
        assert_eq!(code.or(POLICY), POLICY);
        assert!(is_open(stream).await.is_err(), "the end of it");
        world.others_are_unaffected().await;
        member.goes().await;
        world.everybody_is_gone().await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_calls_does_not_slow_others_down() {
    let world = World::start().await;
    let mut alice = world.member("room", "alice").await;
    let mut bob = world.member("room", "bob").await;
    let floods = async {
        for _ in 0..10 {
            let mut main = world.open("/main").await.unwrap();
            main.flood(5_000).await;
        }
    };
    let talk = async {
        for _ in 0..20 {
            let call = bob.room.call("Nothing", map([]));
            let answer = timeout(Duration::from_secs(1), call).await;
            assert!(answer.expect("answered soon").is_err());
            sleep(Duration::from_millis(20)).await;
        }
        bob.says(b"still here").await;
        alice.room.update("MessageReceived").await;
    };
    tokio::join!(floods, talk);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_are_asked_for_and_not_entered_cost_what_the_limits_allow() {
    let world = World::start_with("[limit]\nmax_peers = 20\n").await;
    let rooms: Vec<String> = (0..100).map(|room| format!("room-{room}")).collect();
    let token = world.token(&json!({"rid": rooms, "uid": "eve"}));
    let mut main = world.authenticated(&token).await;
    let mut names = Vec::new();
    for (at, room) in rooms.iter().take(30).enumerate() {
        match main.join(room, b"", [0.0; 3]).await {
            Ok(name) => names.push(name),
            Err(error) => {
                assert_eq!(error, "peer limit exceeded");
                assert!(at >= 20);
            }
        }
    }
    assert_eq!(names.len(), 20);
    for guess in [
        "",
        "?",
        "AAAAAAAAAAAAAAAAAAAAAA",
        &names[0][1..],
        &names[0].to_lowercase(),
        &"A".repeat(10_000),
    ] {
        let path = format!("/room?{guess}");
        let refused = world.open(&path).await.err();
        assert!(
            refused == Some(404) || guess.len() > 1_000,
            "{guess}: {refused:?}"
        );
    }
    assert!(world.open(&format!("/room?{}", names[0])).await.is_ok());
    assert_eq!(
        world.open(&format!("/room?{}", names[0])).await.err(),
        Some(404),
        "used"
    );
    // Whoever goes takes along what nobody can use any more.
    main.socket.close(None).await.unwrap();
    world.everybody_is_gone().await;
    assert_eq!(
        world.open(&format!("/room?{}", names[1])).await.err(),
        Some(404),
        "its client is gone"
    );
    world.others_are_unaffected().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_none_let_nobody_in() {
    let world = World::start_with(ANY_RATE).await;
    let good = world.token_for("room", "eve");
    let seed = 3;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut main = world.open("/main").await.unwrap();
    for round in 0..500 {
        let mut token = good.clone().into_bytes();
        let at = random.usize(..token.len());
        match random.u8(..4) {
            // The last character of a part holds bits that mean nothing: any other place counts.
            0 => token[at] = if token[at] == b'.' { b'-' } else { b'.' },
            1 => token.truncate(at),
            2 => token.insert(at, b'.'),
            _ => {
                let noise = (0..random.usize(..20_000)).map(|_| random.u8(b' '..b'~'));
                token = noise.collect();
            }
        }
        let token = String::from_utf8(token).unwrap();
        let answer = main
            .call("Authenticate", map([("token", token.as_str().into())]))
            .await;
        assert!(answer.is_err(), "seed {seed}, round {round}: {token}");
    }
    assert_eq!(world.count("sfu_clients", "").await, 0.0);
    let answer = main
        .call("Authenticate", map([("token", good.into())]))
        .await;
    assert!(answer.is_ok(), "and the right one still does");
    world.stop().await;
}
