//! Several gateways and one Redis behave as one gateway.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use gateway::Action;
use tokio::{task::JoinSet, time};

use crate::{
    redis_server::RedisServer,
    world::{
        Gateway, ban, connect, equal, eventually, message, moderate, mute, options, report, server,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_connects_to_two_gateways_put_every_room_on_one_server() {
    let redis = RedisServer::start().await;
    let mut options = options(&redis);
    options.tuning.response_timeout = Duration::from_secs(5);
    let one = Gateway::start(&options).await;
    let other = Gateway::start(&options).await;
    for address in ["a:1", "b:1", "c:1"] {
        report(&one.store, address, &BTreeSet::new(), Some(0)).await;
    }
    let mut calls = JoinSet::new();
    for call in 0..200 {
        let gateway = if call % 2 == 0 { &one } else { &other };
        let store = Arc::clone(&gateway.store);
        calls.spawn(async move {
            let name = format!("room {}", call / 2 % 20);
            let address = connect(&store, &name, &format!("user {call}")).await;
            (name, address.expect("a server"))
        });
    }
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    while let Some(answer) = calls.join_next().await {
        let (name, address) = answer.expect("no panic");
        rooms.entry(name).or_default().insert(address);
    }
    assert_eq!(rooms.len(), 20);
    assert!(rooms.values().all(|it| it.len() == 1), "{rooms:?}");
    equal(&one, &other).await;
    assert_eq!(one.store.stats().alone.value(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_killed_and_starts_again_has_forgotten_nothing() {
    let redis = RedisServer::start().await;
    let options = options(&redis);
    let gateway = Gateway::start(&options).await;
    let store = &gateway.store;
    report(store, "a:1", &BTreeSet::new(), Some(0)).await;
    connect(store, "room", "guest").await.expect("a server");
    moderate(store, ban("room", "troll")).await.expect("a room");
    moderate(store, mute("room", "noisy"))
        .await
        .expect("a room");
    moderate(store, message("room", 7)).await.expect("a room");
    let (grid, stale) = (gateway.grid(), Arc::clone(store));
    drop(gateway);

    let gateway = Gateway::start(&options).await;
    assert!(gateway.store.health().online);
    let store = &gateway.store;
    let address = connect(store, "room", "another").await;
    assert_eq!(address.as_deref(), Ok("a:1"));
    let refused = connect(store, "room", "troll").await;
    assert!(refused.is_err(), "{refused:?}");
    let tasks = report(store, "a:1", &BTreeSet::new(), Some(0)).await.tasks;
    let tasks: Vec<_> = tasks.into_iter().map(|it| it.task).collect();
    let wanted = [
        ban("room", "troll"),
        mute("room", "noisy"),
        message("room", 7),
    ];
    assert_eq!(tasks, wanted);
    assert_eq!(
        store.read(|grid| grid.pool("").map(gateway::Pool::mutes)),
        Some(1)
    );
    // The other one reads no more.
    assert_eq!(stale.read(|it| it.clone()), grid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_wakes_the_server_that_waits_at_another_gateway() {
    let redis = RedisServer::start().await;
    let options = options(&redis);
    let one = Gateway::start(&options).await;
    let other = Gateway::start(&options).await;
    report(&one.store, "a:1", &BTreeSet::new(), Some(0)).await;
    connect(&one.store, "room", "guest")
        .await
        .expect("a server");
    let mut waiter = other.store.waiter(&server("a:1"));
    moderate(&one.store, ban("room", "troll"))
        .await
        .expect("a room");
    let woken = time::timeout(Duration::from_secs(5), waiter.woken()).await;
    assert!(woken.is_ok());
    let server = server("a:1");
    let taken = other.store.submit(Action::Take { server }).await;
    let gateway::Outcome::Tasks(Ok(delivery)) = taken else {
        panic!("{taken:?}");
    };
    assert_eq!(delivery.tasks.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_start_together_agree_on_one_log() {
    let redis = RedisServer::start().await;
    let options = options(&redis);
    let starts = (0..4).map(|_| Gateway::start(&options));
    let gateways = futures::future::join_all(starts).await;
    let begun: u64 = gateways
        .iter()
        .map(|it| it.store.stats().epochs.value())
        .sum();
    assert_eq!(begun, 1);
    for (at, gateway) in gateways.iter().enumerate() {
        let address = format!("s{at}:1");
        report(&gateway.store, &address, &BTreeSet::new(), None).await;
    }
    let count = |it: &Gateway| {
        it.store
            .read(|grid| grid.pool("").map_or(0, |pool| pool.servers().count()))
    };
    eventually("all know all servers", || {
        gateways.iter().all(|it| count(it) == 4)
    })
    .await;
}
