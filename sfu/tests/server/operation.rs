//! The server as an operator and a moderator meet it: its end, and what a gateway orders.

use std::time::Duration;

use rmpv::Value;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    client::{Member, map},
    grid::Gateway,
    world::World,
};

/// Close codes of RFC 6455.
const AWAY: Option<u16> = Some(1001);
const NORMAL: Option<u16> = Some(1000);

/// Longest time until an order of a moderator shows. It takes a hundredth of that on a machine with nothing else to do.
const ORDER_TIME: Duration = Duration::from_secs(1);

async fn is_told_that_the_server_closes(member: &mut Member) {
    let left = member.room.update("Left").await;
    assert_eq!(left["reason"].as_str(), Some("server_closing"));
    assert_eq!(member.room.closed().await, AWAY);
    assert_eq!(member.main.closed().await, AWAY);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_drains_those_inside_stay_and_nobody_comes_in() {
    const DRAIN: Duration = Duration::from_millis(1_500);
    let mut world = World::start_draining("", DRAIN).await;
    let mut alice = world.member("room", "alice").await;
    let mut bob = world.member("room", "bob").await;
    let mut outside = world.authenticated(&world.token_for("room", "late")).await;
    let mut on_the_way = world.authenticated(&world.token_for("room", "carol")).await;
    let stream = on_the_way.join("room", b"", [0.0; 3]).await.unwrap();
    assert_eq!(world.readiness().await, 200);
    world.end();
    let began = Instant::now();
    while world.readiness().await != 503 {
        assert!(began.elapsed() < DRAIN / 2, "it goes on");
    }
    assert_eq!(world.open("/main").await.err(), Some(503));
    let refused = outside.join("room", b"", [0.0; 3]).await;
    assert_eq!(refused.unwrap_err(), "server is closing");
    let mut carol = world.enter(on_the_way, &stream).await;
    bob.says(b"we talk on").await;
    for hears in [&mut alice, &mut carol] {
        hears.room.update("MessageReceived").await;
    }
    assert!(began.elapsed() < DRAIN, "too slow a machine for this test");
    for member in [&mut alice, &mut bob, &mut carol] {
        is_told_that_the_server_closes(member).await;
    }
    assert!(began.elapsed() >= DRAIN);
    assert_eq!(outside.closed().await, AWAY);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_that_the_server_closes() {
    // Many rooms and some haste: what a peer is told must not depend on who is quicker.
    const MEMBERS: usize = 30;
    let mut world = World::start().await;
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        members.push(
            world
                .member(&format!("room-{}", number / 2), &format!("user-{number}"))
                .await,
        );
    }
    world.end();
    for member in &mut members {
        is_told_that_the_server_closes(member).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_when_nobody_is_in_or_when_asked_again() {
    let hour = Duration::from_secs(3600);
    let world = World::start_draining("", hour).await;
    let mut outside = world.authenticated(&world.token_for("room", "late")).await;
    world.stop().await;
    assert_eq!(outside.closed().await, AWAY);

    let mut world = World::start_draining("", hour).await;
    let mut alice = world.member("room", "alice").await;
    world.end();
    let waits = timeout(Duration::from_millis(300), alice.main.closed()).await;
    assert!(waits.is_err(), "she may stay");
    world.hurry();
    is_told_that_the_server_closes(&mut alice).await;
    world.stop().await;
}

/// Waits for a peer's last event, which must come soon.
async fn has_to_leave(member: &mut Member, reason: &str, since: Instant) -> Duration {
    let left = member.room.update("Left").await;
    let took = since.elapsed();
    assert_eq!(left["reason"].as_str(), Some(reason));
    assert_eq!(member.room.closed().await, NORMAL);
    assert!(took < ORDER_TIME, "{took:?}");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_a_moderator_take_effect_at_once() {
    let gateway = Gateway::start().await;
    let world = World::below(&gateway.internal_url).await;
    let mut alice = gateway.member(&world, "alice").await;
    let mut bob = gateway.member(&world, "bob").await;
    let (_, token_of_bob) = gateway.connect("bob").await;
    // The gateway knows of a room what the server last reported.
    sleep(Duration::from_millis(700)).await;

    let began = Instant::now();
    let update = json!({"room_id": "room", "user_data": [1, 2, 255]});
    gateway.moderate("RoomUpdate", update).await;
    let changed = alice.room.update("UserDataChanged").await;
    assert_eq!(changed["user_data"], Value::Binary(vec![1, 2, 255]));
    assert!(began.elapsed() < ORDER_TIME, "{:?}", began.elapsed());

    let began = Instant::now();
    let message = json!({"room_id": "room", "user_id": "alice", "message": [7]});
    gateway.moderate("RoomSendMessage", message).await;
    let received = alice.room.update("MessageReceived").await;
    assert_eq!(received["message"], Value::Binary(vec![7]));
    assert!(began.elapsed() < ORDER_TIME, "{:?}", began.elapsed());
    assert!(!bob.room.has_heard("MessageReceived").await, "alice alone");

    // Between JoinRoom and the room's stream.
    let mut second = world.authenticated(&token_of_bob).await;
    let stream = second.join("room", b"", [0.0; 3]).await.unwrap();
    let began = Instant::now();
    let ban = json!({"room_id": "room", "user_id": "bob", "ban_time": 2});
    gateway.moderate("RoomBanClient", ban).await;
    has_to_leave(&mut bob, "peer_kicked", began).await;
    alice.room.update("PeerLeft").await;
    let mut late = world.open(&format!("/room?{stream}")).await.unwrap();
    late.update("Left").await;
    assert_eq!(late.closed().await, NORMAL);
    let refused = second.join("room", b"", [0.0; 3]).await;
    assert_eq!(refused.unwrap_err(), "banned from this room");
    sleep(Duration::from_millis(2_200).saturating_sub(began.elapsed())).await;
    let mut bob = gateway.member(&world, "bob").await;

    let began = Instant::now();
    let close = json!({"room_id": "room", "ban_time": 2});
    let mut outside = world.authenticated(&token_of_bob).await;
    gateway.moderate("RoomClose", close).await;
    has_to_leave(&mut alice, "room_closing", began).await;
    has_to_leave(&mut bob, "room_closing", began).await;
    let refused = outside.join("room", b"", [0.0; 3]).await;
    assert_eq!(refused.unwrap_err(), "room is temporarily not available");
    sleep(Duration::from_millis(2_200).saturating_sub(began.elapsed())).await;
    outside
        .join("room", b"", [0.0; 3])
        .await
        .expect("open again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outlives_the_gateway_and_is_moderated_by_the_next() {
    let mut gateway = Gateway::start().await;
    let world = World::below(&gateway.internal_url).await;
    let mut alice = gateway.member(&world, "alice").await;
    let mut bob = gateway.member(&world, "bob").await;
    gateway.kill();
    world
        .counts("sfu_supervisor_reports_total", "failure", 1.0)
        .await;
    for number in 0..6_u8 {
        bob.says(&[number]).await;
        let heard = alice.room.update("MessageReceived").await;
        assert_eq!(heard["message"], Value::Binary(vec![number]));
        sleep(Duration::from_millis(500)).await;
    }
    let before = world.count("sfu_supervisor_reports_total", "success").await;
    gateway.revive().await;
    world
        .counts("sfu_supervisor_reports_total", "success", before + 1.0)
        .await;
    assert_eq!(world.readiness().await, 200);
    // Who is banned is known to the new one, too, and its tasks are carried out, with whatever numbers they have.
    let began = Instant::now();
    let ban = json!({"room_id": "room", "user_id": "bob", "ban_time": 0});
    gateway.moderate("RoomBanClient", ban).await;
    has_to_leave(&mut bob, "peer_kicked", began).await;
    alice.room.call("Nothing", map([])).await.unwrap_err();
    gateway.member(&world, "carol").await;
    world.stop().await;
}
