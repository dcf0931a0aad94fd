//! Kicks, bans and messages on their way to a room's server.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{SERVER, World, message};

fn ban(user: &str, seconds: u64) -> Value {
    json!({"room_id": "room", "user_id": user, "ban_time": seconds})
}

async fn moderate(world: &World, method: &str, params: Value) {
    let answer = world.call(method, params, &world.token(json!({}))).await;
    assert_eq!(answer.1["result"], json!({}), "{answer:?}");
}

#[tokio::test]
async fn a_server_that_acknowledges_gets_its_tasks_until_it_does() {
    let world = World::start().await;
    let report = async |acknowledged: u64| {
        let more = json!({"acknowledged": acknowledged});
        world.report(SERVER, &["room"], more).await
    };
    assert_eq!(report(0).await, json!([]));
    moderate(&world, "RoomBanClient", ban("a", 0)).await;
    moderate(&world, "RoomBanClient", ban("b", 0)).await;
    let first = report(0).await;
    // As if the answer had been lost.
    assert_eq!(report(0).await, first);
    let id = |at: usize| first[at]["task_id"].as_u64().unwrap();
    assert!(id(0) > 0 && id(1) > id(0));
    let rest = report(id(0)).await;
    assert_eq!(rest, json!([first[1]]));
    assert_eq!(report(id(1)).await, json!([]));
}

#[tokio::test]
async fn a_server_that_does_not_acknowledge_gets_each_task_once_in_the_old_form() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    moderate(
        &world,
        "RoomUpdate",
        json!({"room_id": "room", "user_data": [1, 2, 255]}),
    )
    .await;
    let tasks = world.report(SERVER, &["room"], json!({})).await;
    let update = json!({"task": "RoomUpdate", "id": ["studio", "room"], "user_data": [1, 2, 255]});
    assert_eq!(tasks, json!([update]));
    assert_eq!(world.report(SERVER, &["room"], json!({})).await, json!([]));
}

#[tokio::test]
async fn a_waiting_report_is_answered_as_soon_as_there_is_a_task() {
    let world = World::start().await;
    for acknowledgement in [
        json!({"wait_ms": 5_000}),
        json!({"wait_ms": 5_000, "acknowledged": 0}),
    ] {
        world.room_on(SERVER).await;
        let waiting = async {
            let started = Instant::now();
            let tasks = world
                .report(SERVER, &["room"], acknowledgement.clone())
                .await;
            (tasks, started.elapsed())
        };
        let kick = async {
            // The report is under way.
            tokio::time::sleep(Duration::from_millis(100)).await;
            moderate(&world, "RoomBanClient", ban("bob", 0)).await;
        };
        let ((tasks, waited), ()) = tokio::join!(waiting, kick);
        assert_eq!(tasks[0]["user_id"], "bob", "{acknowledgement}");
        assert!(
            waited < Duration::from_secs(4),
            "not at the end of the wait: {waited:?}"
        );
    }
}

#[tokio::test]
async fn a_waiting_report_ends_when_there_is_nothing_to_do() {
    let world = World::start().await;
    let more = json!({"wait_ms": 50, "acknowledged": 0});
    assert_eq!(world.report(SERVER, &["room"], more).await, json!([]));
}

#[tokio::test]
async fn a_task_is_not_lost_with_a_report_whose_server_went_away_while_it_waited() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    let more = json!({"wait_ms": 5_000});
    let report = world.report(SERVER, &["room"], more);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), report)
            .await
            .is_err()
    );
    moderate(&world, "RoomBanClient", ban("bob", 0)).await;
    let tasks = world.report(SERVER, &["room"], json!({})).await;
    assert_eq!(tasks[0]["user_id"], "bob");
}

#[tokio::test]
async fn a_banned_user_is_refused_and_others_are_not() {
    let world = World::start().await;
    world.report(SERVER, &["room", "other"], json!({})).await;
    moderate(&world, "RoomBanClient", ban("bob", 3600)).await;
    let refused = world.connect(json!({"uid": "bob"})).await;
    assert_eq!(refused.1["error"]["code"], -32600);
    let text = "user is banned from room \"room\" for another 3600 s";
    assert_eq!(message(&refused), text);
    for changes in [json!({"uid": "eve"}), json!({"uid": "bob", "rid": "other"})] {
        let answer = world.connect(changes.clone()).await;
        assert!(answer.1["result"].is_object(), "{changes}: {answer:?}");
    }
}

#[tokio::test]
async fn a_closed_room_is_refused_to_everybody_even_when_its_server_is_gone() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    moderate(
        &world,
        "RoomClose",
        json!({"room_id": "room", "ban_time": 60}),
    )
    .await;
    world.report(SERVER, &[], json!({})).await;
    let text = "room \"room\" is closed for another 60 s";
    assert_eq!(
        message(&world.connect(json!({"uid": "anybody"})).await),
        text
    );
}

#[tokio::test]
async fn whoever_connects_to_a_room_of_a_draining_server_is_sent_to_another() {
    const OTHER: &str = "sfu-2.test:4433";
    let world = World::start().await;
    world.room_on(SERVER).await;
    world.report(OTHER, &[], json!({})).await;
    let address = async || world.connect(json!({})).await.1["result"]["address"].clone();
    assert_eq!(address().await, SERVER);
    let draining = json!({"draining": true});
    world.report(SERVER, &["room"], draining).await;
    assert_eq!(address().await, OTHER);
}

#[tokio::test]
async fn a_mute_reaches_the_server_of_the_room_and_lets_the_user_in() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    let all = json!({"room_id": "room", "user_id": "bob"});
    let one = json!({
        "room_id": "room", "user_id": "bob", "listener_id": "eve", "mute_time": 1.5, "reason": "noise",
    });
    moderate(&world, "RoomMuteClient", all.clone()).await;
    moderate(&world, "RoomMuteClient", one).await;
    moderate(&world, "RoomUnmuteClient", all).await;
    let answer = world.connect(json!({"uid": "bob"})).await;
    assert_eq!(answer.1["result"]["address"], SERVER, "{answer:?}");
    let id = ["studio", "room"];
    let ten_years = json!({"secs": 315_360_000, "nanos": 0});
    let short = json!({"secs": 1, "nanos": 500_000_000});
    let tasks = json!([
        {"task": "RoomMuteClient", "id": id, "user_id": "bob", "mute_time": ten_years, "reason": ""},
        {"task": "RoomMuteClient", "id": id, "user_id": "bob", "listener_id": "eve", "mute_time": short,
            "reason": "noise"},
        {"task": "RoomUnmuteClient", "id": id, "user_id": "bob"},
    ]);
    assert_eq!(world.report(SERVER, &["room"], json!({})).await, tasks);
}

#[tokio::test]
async fn a_mute_without_time_is_refused_with_the_name_of_what_was_meant() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    let params = json!({"room_id": "room", "user_id": "bob", "mute_time": 0});
    let answer = world
        .call("RoomMuteClient", params, &world.token(json!({})))
        .await;
    assert_eq!(answer.1["error"]["code"], -32600, "{answer:?}");
    let text = answer.1["error"]["data"]["fieldErrors"]["mute_time"][0].as_str();
    assert!(text.unwrap().contains("RoomUnmuteClient"), "{answer:?}");
    assert_eq!(world.report(SERVER, &["room"], json!({})).await, json!([]));
}

#[tokio::test]
async fn a_token_opens_mutes_as_it_opens_everything_else() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    for method in ["RoomMuteClient", "RoomUnmuteClient"] {
        let call = async |room: &str, claims: Value| {
            let params = json!({"room_id": room, "user_id": "bob"});
            world.call(method, params, &world.token(claims)).await
        };
        let named = json!({"sub": method.to_lowercase()});
        assert_eq!(call("room", named).await.1["result"], json!({}));
        let unnamed = call("room", json!({"sub": ["connect", "roombanclient"]})).await;
        assert_eq!(message(&unnamed), "Method not found", "{method}");
        let text = "room_id param does not match rid in authorization token";
        assert_eq!(message(&call("other", json!({})).await), text, "{method}");
        let nowhere = call("other", json!({"rid": "other"})).await;
        assert_eq!(message(&nowhere), "no server for room found", "{method}");
    }
}
