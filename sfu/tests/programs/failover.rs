//! A voice server that dies without a word: its gateway sends clients elsewhere.

use std::time::{Duration, Instant};

use crate::{
    grid::Gateway,
    world::{Folder, PATIENCE, World},
};

/// The gateway's `disable_timeout` and one of its ticks.
const NOTICED: Duration = Duration::from_millis(1_000 + 300);

/// And what a machine with much to do may add.
const GRACE: Duration = Duration::from_secs(1);

async fn server(gateway: &Gateway, address: &str) -> World {
    let folder = Folder::below(&gateway.internal_url, address);
    folder.start(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_server_that_was_killed_are_sent_to_another() {
    const ADDRESSES: [&str; 2] = ["one.test:1", "two.test:1"];
    let gateway = Gateway::start().await;
    let mut servers = [
        server(&gateway, ADDRESSES[0]).await,
        server(&gateway, ADDRESSES[1]).await,
    ];
    let (first, token) = gateway.connect("alice").await;
    let at = ADDRESSES
        .iter()
        .position(|it| *it == first)
        .expect("one of ours");
    let mut main = servers[at].authenticated(&token).await;
    let stream = main.join("room", b"", [0.0; 3]).await.expect("let in");
    let mut alice = servers[at].enter(main, &stream).await;
    // The room is where the server says it is.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(gateway.connect("bob").await.0, first);

    servers[at].signal("KILL");
    let began = Instant::now();
    assert_eq!(servers[at].ends().await.code(), None, "killed");
    assert_eq!(alice.room.closed().await, None, "no word");
    let (second, token) = loop {
        let answer = gateway.connect("alice").await;
        if answer.0 != first {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "nobody is moved");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let took = began.elapsed();
    assert!(took < NOTICED + GRACE, "{took:?}");
    let other = ADDRESSES
        .iter()
        .position(|it| *it == second)
        .expect("one of ours");
    let mut main = servers[other].authenticated(&token).await;
    let stream = main.join("room", b"", [0.0; 3]).await.expect("let in");
    servers[other].enter(main, &stream).await;
}
