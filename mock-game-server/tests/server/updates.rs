//! What the Fleet is told: at the start, after a failure, when a match has lasted too long, and at the end.

use std::time::Duration;

use mock_game_server::{ExitState, Server, ServerError};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

use crate::harness::{
    PATIENCE, Running, accepted, answer_with, away, config, refused, skip, update_to, updates,
};

#[tokio::test]
async fn while_the_fleet_refuses_nothing_changes() {
    let server = Running::start(|_| {}).await;
    answer_with(&server.fleet, refused()).await;
    let (status, body) = server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    assert_eq!(status, 502);
    let text = body["error"].as_str().expect("a text");
    assert!(
        text.contains("not you") && !text.contains("t0ken"),
        "{text}"
    );
    assert_eq!(server.ping("ping a").await, "pong a 42 idle");

    answer_with(&server.fleet, accepted()).await;
    assert_eq!(
        server.post("/match/start", r#"{"match_id":"m2"}"#).await.0,
        200
    );
    answer_with(&server.fleet, refused()).await;
    assert_eq!(server.post("/match/finish", "{}").await.0, 502);
    assert_eq!(server.ping("ping a").await, "pong a 42 occupied m2");
}

#[tokio::test]
async fn after_a_failure_the_fleet_is_told_again_what_holds() {
    let server = Running::start(|_| {}).await;
    // The Fleet may have taken the update although it says otherwise.
    answer_with(&server.fleet, refused()).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    answer_with(&server.fleet, accepted()).await;
    assert_eq!(updates(&server.fleet).await, [] as [Value; 0]);
    skip(Duration::from_secs(2)).await;
    assert_eq!(update_to(&server.fleet, "idle").await["match_id"], "");
    skip(Duration::from_secs(3600)).await;
    assert_eq!(server.ping("ping a").await, "pong a 42 idle");
    assert_eq!(updates(&server.fleet).await.len(), 1, "once is enough");
}

#[tokio::test]
async fn a_short_outage_is_not_noticed() {
    let server = Running::start(|_| {}).await;
    server.fleet.reset().await;
    let failing = Mock::given(matchers::any()).respond_with(ResponseTemplate::new(502));
    failing.up_to_n_times(2).mount(&server.fleet).await;
    let working = Mock::given(matchers::any()).respond_with(accepted());
    working.mount(&server.fleet).await;
    assert_eq!(
        server.post("/match/start", r#"{"match_id":"m1"}"#).await.0,
        200
    );
    assert_eq!(updates(&server.fleet).await.len(), 3);
}

#[tokio::test]
async fn on_the_way_out_it_says_so() {
    let server = Running::start(|_| {}).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    let (result, last) = server.ends().await;
    result.expect("updated");
    assert_eq!(last["instance_state"], "stopped");
    assert_eq!(last["match_id"], "");
    assert_eq!(last["last_outcome"], "aborted");
}

#[tokio::test]
async fn it_can_be_left_behind_idle() {
    let server = Running::start(|config| config.exit_state = ExitState::Idle).await;
    answer_with(&server.fleet, accepted()).await;
    let (result, last) = server.ends().await;
    result.expect("updated");
    assert_eq!(last["instance_state"], "idle");
    assert_eq!(last["last_outcome"], Value::Null);
}

#[tokio::test]
async fn a_last_update_that_fails_is_reported() {
    let server = Running::start(|_| {}).await;
    answer_with(&server.fleet, refused()).await;
    let (result, _) = server.ends().await;
    assert!(matches!(
        result,
        Err(fleet_client::Error::PermissionDenied(_))
    ));
}

#[tokio::test]
async fn an_update_that_hangs_does_not_delay_the_end() {
    let server = Running::start(|_| {}).await;
    answer_with(&server.fleet, accepted().set_delay(PATIENCE * 2)).await;
    let caller = tokio::spawn(server.post("/match/start", r#"{"match_id":"m1"}"#));
    update_to(&server.fleet, "occupied").await;
    answer_with(&server.fleet, accepted()).await;
    let (result, last) = server.ends().await;
    result.expect("updated");
    assert_eq!(last["instance_state"], "stopped");
    let ending = (503, json!({"error": "this server is ending"}));
    assert_eq!(caller.await.expect("no panic"), ending);
}

#[tokio::test]
async fn a_match_ends_when_its_time_is_over() {
    let server =
        Running::start(|config| config.match_duration = Some(Duration::from_secs(600))).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    answer_with(&server.fleet, accepted()).await;
    skip(Duration::from_secs(599)).await;
    assert_eq!(server.ping("ping a").await, "pong a 42 occupied m1");
    skip(Duration::from_secs(1)).await;
    let update = update_to(&server.fleet, "idle").await;
    assert_eq!(update["last_outcome"], "time-limit");
}

#[tokio::test]
async fn a_match_whose_time_is_over_ends_when_the_fleet_is_back() {
    let server =
        Running::start(|config| config.match_duration = Some(Duration::from_secs(600))).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    for outage in [600, 2, 4] {
        answer_with(&server.fleet, refused()).await;
        skip(Duration::from_secs(outage)).await;
        update_to(&server.fleet, "idle").await;
        assert_eq!(server.ping("ping a").await, "pong a 42 occupied m1");
    }
    answer_with(&server.fleet, accepted()).await;
    skip(Duration::from_secs(60)).await;
    update_to(&server.fleet, "idle").await;
    let next = server.post("/match/start", r#"{"match_id":"m2"}"#).await;
    assert_eq!(next.0, 200);
}

#[tokio::test]
async fn a_finished_match_takes_its_timer_along() {
    let server =
        Running::start(|config| config.match_duration = Some(Duration::from_secs(600))).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    skip(Duration::from_secs(590)).await;
    server.post("/match/finish", "{}").await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    skip(Duration::from_secs(590)).await;
    assert_eq!(server.ping("ping a").await, "pong a 42 occupied m1");
}

#[tokio::test]
async fn it_does_not_start_when_nobody_would_find_it() {
    let fleet = MockServer::start().await;
    let body = json!({"message": "no"});
    answer_with(&fleet, ResponseTemplate::new(401).set_body_json(body)).await;
    let error = Server::bind(config(&fleet)).await.expect_err("no server");
    assert!(matches!(
        error,
        ServerError::Announce(fleet_client::Error::Unauthenticated(_))
    ));
}

#[tokio::test]
async fn a_fleet_that_is_away_at_the_start_is_told_later() {
    let fleet = MockServer::start().await;
    answer_with(&fleet, away()).await;
    let server = Running::against(fleet, |_| {}).await;
    assert_eq!(server.ping("ping a").await, "pong a 42 idle");
    answer_with(&server.fleet, accepted()).await;
    skip(Duration::from_secs(2)).await;
    update_to(&server.fleet, "idle").await;
}
