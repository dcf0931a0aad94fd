//! SIGHUP, SIGTERM, and SIGTERM again.

use std::time::{Duration, Instant};

use gateway_api::{KeyKind, KeyPair, sign};
use serde_json::json;
use tokio::{net::TcpStream, time::sleep};

use crate::{
    client::{OFFER, map},
    world::{Folder, PATIENCE, World, section_of_key},
};

async fn is_served(world: &World) -> bool {
    let tls = tokio_rustls::TlsConnector::from(world.folder.trusting());
    let tcp = TcpStream::connect(world.http).await.expect("a connection");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    tls.connect(name, tcp).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_keys_and_the_log_are_read_again_on_sighup() {
    let mut world = Folder::new("[log.terminal]\nverbosity = 1\n")
        .start(&[])
        .await;
    let again = "were read again";
    let mut member = world.member("room", "alice").await;
    assert!(is_served(&world).await);
    world.folder.write_certificate();
    assert!(!is_served(&world).await, "not before it is asked");
    let new = KeyPair::from_seed(&[5; 32], KeyKind::Customer);
    let token = sign(&json!({"rid": "room", "uid": "bob"}), &new);
    let authenticate = async |world: &World| {
        let mut main = world.open("/main").await.expect("a main stream");
        main.call("Authenticate", map([("token", token.as_str().into())]))
            .await
    };
    assert_eq!(authenticate(&world).await.unwrap_err(), "not authorized");
    let jwk = new.public_jwk();
    let text = world
        .folder
        .settings()
        .replace("verbosity = 1", "verbosity = 3");
    world.folder.write_settings(&format!(
        "{text}{}",
        section_of_key(&jwk.kid.to_string(), &jwk.x)
    ));
    let offer = map([("sdp", OFFER.into())]);
    member
        .main
        .call("SetupWebRtc", offer)
        .await
        .expect("an answer");
    assert!(!world.log().contains("DEBUG") && !world.log().contains("TRACE"));
    world.signal("HUP");
    world.says(again).await;
    world.tls = world.folder.trusting();
    assert!(is_served(&world).await, "the new certificate is");
    authenticate(&world).await.expect("the new key is known");
    let offer = map([("sdp", OFFER.into())]);
    member
        .main
        .call("SetupWebRtc", offer)
        .await
        .expect("an answer");
    world.says("\"level\":\"DEBUG\"").await;
    assert!(
        !world.log().contains("pass"),
        "the library's words hold secrets of clients"
    );
    member
        .room
        .call("Nothing", map([]))
        .await
        .expect_err("who was in stays in");

    // What is wrong leaves everything as it is.
    world.folder.write_settings("nonsense");
    world.signal("HUP");
    world.says("what was not read again stays as it was").await;
    authenticate(&world).await.expect("still known");
    assert!(world.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_with_0_and_lets_those_inside_stay_for_the_drain() {
    let mut world = Folder::new("").start(&[]).await;
    world.signal("TERM");
    assert_eq!(world.ends().await.code(), Some(0));

    let mut world = Folder::new("").start(&["--drain", "1"]).await;
    let mut alice = world.member("room", "alice").await;
    let began = Instant::now();
    world.signal("TERM");
    let left = alice.room.update("Left").await;
    assert_eq!(left["reason"].as_str(), Some("server_closing"));
    assert_eq!(alice.main.closed().await, Some(1001));
    assert_eq!(world.ends().await.code(), Some(0));
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&began.elapsed()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_sigterm_cuts_a_long_drain() {
    let mut world = Folder::new("").start(&["--drain", "3600"]).await;
    let mut alice = world.member("room", "alice").await;
    world.signal("TERM");
    sleep(Duration::from_millis(500)).await;
    assert!(world.is_running());
    alice
        .room
        .call("Nothing", map([]))
        .await
        .expect_err("she may stay");
    let began = Instant::now();
    world.signal("TERM");
    assert_eq!(world.ends().await.code(), Some(0));
    assert!(began.elapsed() < PATIENCE / 2);
    alice.room.update("Left").await;
}
