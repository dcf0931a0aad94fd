//! What is done beside serving: snapshots, short logs, and noticing that Redis lost something.

use std::collections::BTreeSet;

use redis::AsyncCommands as _;

use crate::{
    redis_server::RedisServer,
    world::{Gateway, connect, equal, eventually, options, options_for, report},
};

const LOG: &str = "{test}:log";
const SNAPSHOT: &str = "{test}:snapshot";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_keep_the_log_short_and_a_start_needs_no_more() {
    let redis = RedisServer::start().await;
    let mut options = options(&redis);
    options.tuning.snapshot_entries = 20;
    let one = Gateway::start(&options).await;
    report(&one.store, "a:1", &BTreeSet::new(), None).await;
    let mut connection = redis.connection().await;
    for number in 0..400 {
        let name = format!("r{number}");
        connect(&one.store, &name, "user").await.expect("a server");
        // Snapshots are written beside the commands; these give them time.
        let _: usize = connection.xlen(LOG).await.expect("a log");
    }
    eventually("a few snapshots", || {
        one.store.stats().snapshots.value() > 3
    })
    .await;
    let entries: usize = connection.xlen(LOG).await.expect("a log");
    let saved: u64 = connection
        .hget(SNAPSHOT, "position")
        .await
        .expect("a snapshot");
    assert!(entries < 200, "{entries} entries");
    assert!(saved > 100, "snapshot at {saved}");
    let other = Gateway::start(&options).await;
    equal(&one, &other).await;
    let rooms = other
        .store
        .read(|grid| grid.pool("").map_or(0, |pool| pool.rooms().count()));
    assert_eq!(rooms, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_from_a_damaged_log_keeps_what_was_before_the_damage() {
    let redis = RedisServer::start().await;
    let options = options(&redis);
    let gateway = Gateway::start(&options).await;
    report(&gateway.store, "a:1", &BTreeSet::new(), None).await;
    connect(&gateway.store, "room", "user")
        .await
        .expect("a server");
    let mut connection = redis.connection().await;
    let position: u64 = connection
        .hget("{test}:head", "position")
        .await
        .expect("a head");
    connect(&gateway.store, "later", "user")
        .await
        .expect("a server");
    drop(gateway);
    let lost = format!("{}-0", position + 1);
    let count: usize = connection.xdel(LOG, &[lost]).await.expect("a log");
    assert_eq!(count, 1);

    let gateway = Gateway::start(&options).await;
    assert!(gateway.store.health().online);
    assert_eq!(gateway.store.stats().torn_logs.value(), 1);
    let grid = gateway.grid();
    let rooms = grid.pool("").expect("a pool").rooms();
    let names: Vec<_> = rooms.map(|(_, it)| it.id.name.as_str()).collect();
    assert_eq!(names, ["room"]);
    let address = connect(&gateway.store, "later", "user").await;
    assert_eq!(address.as_deref(), Ok("a:1"));
}

/// Two gateways that know a room, and what is done to their Redis; then they know it still, and agree.
async fn survives(harm: impl AsyncFnOnce(&mut redis::aio::MultiplexedConnection)) {
    let redis = RedisServer::start().await;
    let options = options(&redis);
    let one = Gateway::start(&options).await;
    let other = Gateway::start(&options).await;
    for address in ["a:1", "b:1"] {
        report(&one.store, address, &BTreeSet::new(), None).await;
    }
    let address = connect(&one.store, "room", "user").await;
    equal(&one, &other).await;
    harm(&mut redis.connection().await).await;
    let outages = || one.store.stats().outages.value() + other.store.stats().outages.value();
    eventually("the harm is noticed", || outages() >= 2).await;
    equal(&one, &other).await;
    assert_eq!(connect(&other.store, "room", "user").await, address);
    assert_eq!(connect(&one.store, "room", "user").await, address);
    let third = Gateway::start(&options).await;
    assert_eq!(connect(&third.store, "room", "user").await, address);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_is_noticed_and_filled_again() {
    survives(async |connection| {
        let done: redis::RedisResult<()> = redis::cmd("FLUSHALL").query_async(connection).await;
        done.expect("an empty Redis");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_does_not_follow_the_last_one_is_noticed() {
    survives(async |connection| {
        let position: u64 = connection
            .hget("{test}:head", "position")
            .await
            .expect("a head");
        let fields = [
            ("at", "1"),
            ("after", "1"),
            ("id", "1"),
            (
                "command",
                r#"{"id":1,"action":{"Tick":{"silence_counts":true}}}"#,
            ),
        ];
        // Far enough ahead that no tick comes first.
        let id = format!("{}-0", position + 1000);
        let added: redis::RedisResult<String> = connection.xadd(LOG, id, &fields).await;
        added.expect("an entry");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_knows_nothing_does_not_make_others_forget() {
    let mut redis = RedisServer::start().await;
    let options = options(&redis);
    let old = Gateway::start(&options).await;
    report(&old.store, "a:1", &BTreeSet::new(), None).await;
    connect(&old.store, "room", "user").await.expect("a server");
    redis.kill();
    eventually("it is alone", || !old.store.health().online).await;
    redis.restart().await;
    // Most of the time the new one is there first; the outcome must not depend on it.
    let new = Gateway::start(&options).await;
    report(&new.store, "b:1", &BTreeSet::new(), None).await;
    equal(&old, &new).await;
    let grid = new.grid();
    let servers: Vec<_> = grid.pool("").expect("a pool").servers().collect();
    assert_eq!(servers.len(), 2);
    let address = connect(&new.store, "room", "user").await;
    assert_eq!(address.as_deref(), Ok("a:1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_cannot_be_spoken_to_is_done_without_and_its_password_is_not_shown() {
    let redis = RedisServer::start().await;
    let plain = redis.url();
    // One speaks TLS to a server that does not; the other has a password where none is.
    for scheme in ["rediss://user:hunter2@", "redis://user:hunter2@"] {
        let url = plain.replace("redis://", scheme);
        let gateway = Gateway::start(&options_for(&url)).await;
        assert!(!gateway.store.health().online, "{scheme}");
        let shown = format!("{:?} {:?}", gateway.store, gateway.store.health());
        assert!(!shown.contains("hunter2"), "{shown}");
        report(&gateway.store, "a:1", &BTreeSet::new(), None).await;
        let address = connect(&gateway.store, "room", "user").await;
        assert_eq!(address.as_deref(), Ok("a:1"));
    }
}
