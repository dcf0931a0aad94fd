//! Redis goes away under load and comes back in every way it can.

use std::time::Duration;

use tokio::time;

use crate::{
    load::Load,
    redis_server::RedisServer,
    world::{Gateway, connect, equal, eventually, options, report},
};

/// How long Redis is away.
const OUTAGE: Duration = Duration::from_secs(3);

/// How long all is well before and after.
const CALM: Duration = Duration::from_millis(1500);

async fn two(redis: &RedisServer) -> (Gateway, Gateway) {
    let options = options(redis);
    (
        Gateway::start(&options).await,
        Gateway::start(&options).await,
    )
}

/// Both serve on, and say that they are alone.
async fn stay_away(one: &Gateway, other: &Gateway, load: &Load) {
    eventually("both notice", || {
        !one.store.health().online && !other.store.health().online
    })
    .await;
    let before = load.answers();
    time::sleep(OUTAGE).await;
    let answers = load.answers() - before;
    assert!(answers > 500, "{answers} answers without Redis");
    let health = one.store.health();
    assert!(!health.online && health.waiting_commands > 0, "{health:?}");
    assert!(health.degraded_for >= Some(OUTAGE), "{health:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_is_told_everything() {
    let mut redis = RedisServer::start().await;
    let (one, other) = two(&redis).await;
    let load = Load::start(&one, &other).await;
    time::sleep(CALM).await;
    redis.terminate();
    stay_away(&one, &other, &load).await;
    redis.restart().await;
    time::sleep(CALM).await;
    load.finish(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_with_old_data_is_brought_up_to_date() {
    let mut redis = RedisServer::start().await;
    let (one, other) = two(&redis).await;
    let load = Load::start(&one, &other).await;
    time::sleep(CALM).await;
    let mut connection = redis.connection().await;
    let saved: redis::RedisResult<()> = redis::cmd("SAVE").query_async(&mut connection).await;
    saved.expect("a saved state");
    time::sleep(CALM).await;
    redis.kill();
    stay_away(&one, &other, &load).await;
    redis.restart().await;
    time::sleep(CALM).await;
    load.finish(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_for_a_while_is_done_without() {
    let redis = RedisServer::start().await;
    let (one, other) = two(&redis).await;
    let load = Load::start(&one, &other).await;
    time::sleep(CALM).await;
    redis.pause();
    stay_away(&one, &other, &load).await;
    redis.resume();
    time::sleep(CALM).await;
    load.finish(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_starts_without_redis_and_shares_what_it_knows_later() {
    let mut redis = RedisServer::absent();
    let (one, other) = two(&redis).await;
    assert!(!one.store.health().online && !other.store.health().online);
    report(&one.store, "a:1", &Default::default(), None).await;
    let address = connect(&one.store, "early", "user").await;
    assert_eq!(address.as_deref(), Ok("a:1"));
    redis.restart().await;
    equal(&one, &other).await;
    let address = connect(&other.store, "early", "user").await;
    assert_eq!(address.as_deref(), Ok("a:1"));
}
