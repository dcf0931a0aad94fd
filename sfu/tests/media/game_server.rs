//! Rooms whose game server says where users are and who does not hear whom.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::{
    caller::Caller,
    grid::Gateway,
    world::{PATIENCE, World},
};

/// A game server that has batches for one voice server.
struct GameServer {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl World {
    fn game_server(&self, room: &str) -> GameServer {
        self.game_server_with(&json!({
            "rid": room, "uid": "game server", "aud": "sfu", "sub": "positions",
        }))
    }

    fn game_server_with(&self, claims: &Value) -> GameServer {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls::ClientConfig::clone(&self.tls))
            .resolve("localhost", self.http)
            .build();
        GameServer {
            http: http.expect("a client"),
            url: format!("https://localhost:{}/positions", self.http.port()),
            token: self.token(claims),
        }
    }

    async fn batches(&self, token: &str) -> Result<WebSocketStream<TlsStream<TcpStream>>, u16> {
        let mut request = "wss://localhost/positions"
            .into_client_request()
            .expect("a URL");
        let bearer = format!("Bearer {token}").parse().expect("a header");
        request.headers_mut().insert("authorization", bearer);
        match client_async(request, self.connect().await).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

impl GameServer {
    /// Status and answer.
    async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let post = self
            .http
            .post(&self.url)
            .bearer_auth(&self.token)
            .body(body);
        let response = post.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.json().await.expect("JSON"))
    }

    /// Has a batch carried out; gives how many of its users' peers are in.
    async fn says(&self, batch: Value) -> u64 {
        let (status, answer) = self.post(batch.to_string()).await;
        assert_eq!(status, 200, "{batch}: {answer}");
        answer["present"].as_u64().expect("a number")
    }
}

impl Caller {
    /// Talks until it is not dropped for being muted.
    async fn is_unmuted(&mut self, world: &World) {
        let unmuted = async {
            loop {
                let dropped = world.drops("muted").await;
                self.talk_to(world).await;
                if world.drops("muted").await == dropped {
                    return;
                }
            }
        };
        timeout(PATIENCE, unmuted).await.expect("unmuted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cheating_client_hears_only_whom_the_game_server_allows() {
    let world = World::start().await;
    let game_server = world.game_server("lobby");
    let everybody = json!({"alice": [10, 0], "bob": [10, 0.5], "cheat": [90, 0, 0]});
    // Before anybody is there.
    assert_eq!(game_server.says(json!({"positions": everybody})).await, 0);
    let mut alice = world.caller("lobby", "alice").await;
    let mut bob = world.caller("lobby", "bob").await;
    let mut cheat = world.caller("lobby", "cheat").await;
    let stranger = world.caller("lobby", "stranger").await;
    for place in [
        [10.0, 0.0, 0.0],
        [10.0, 0.5, 0.0],
        [0.0; 3],
        [90.0, 0.0, 0.0],
    ] {
        cheat.move_to(place).await;
        alice.is_heard_by(&[&bob]).await;
        bob.is_heard_by(&[&alice]).await;
        cheat.talk_to(&world).await;
    }
    let allowed = json!({"positions": {"cheat": [10, -0.5], "bob": [20, 0], "nobody": [1, 1]}});
    assert_eq!(game_server.says(allowed).await, 2);
    // The first that it hears, and nothing of what it said before was heard.
    alice.is_heard_by(&[&cheat]).await;
    cheat.is_heard_by(&[&alice]).await;
    bob.talk_to(&world).await;
    assert_eq!(
        game_server
            .says(json!({"positions": {"stranger": [10, 0], "cheat": null}}))
            .await,
        2
    );
    alice.is_heard_by(&[&stranger]).await;
    let all =
        json!({"positions": {"alice": [0, 0], "bob": [0, 0], "cheat": [0, 0], "stranger": [0, 0]}});
    assert_eq!(game_server.says(all).await, 4);
    bob.is_heard_by(&[&alice, &cheat, &stranger]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mutes_hold_for_all_or_for_one_and_for_their_time() {
    let world = World::start().await;
    let game_server = world.game_server("lobby");
    let mut alice = world.caller("lobby", "alice").await;
    let bob = world.caller("lobby", "bob").await;
    let carol = world.caller("lobby", "carol").await;
    let mute = json!({"mutes": [{"user_id": "alice", "listener_id": "bob", "reason": "dead"}]});
    game_server.says(mute).await;
    alice.is_heard_by(&[&carol]).await;
    // Whoever goes out of a muted state by leaving comes back into it.
    drop(bob);
    let bob = world.caller("lobby", "bob").await;
    alice.is_heard_by(&[&carol]).await;
    let unmute = json!({"unmutes": [{"user_id": "alice", "listener_id": "bob"}]});
    game_server.says(unmute).await;
    alice.is_heard_by(&[&bob, &carol]).await;

    game_server
        .says(json!({"mutes": [{"user_id": "alice", "mute_time": 3600}]}))
        .await;
    alice.talk_to(&world).await;
    assert_eq!(world.drops("muted").await, 1.0);
    game_server
        .says(json!({"mutes": [{"user_id": "alice", "mute_time": 0.3}]}))
        .await;
    alice.talk_to(&world).await;
    alice.is_unmuted(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_kept_without_peers_and_stays_the_game_servers() {
    let world = World::start().await;
    let game_server = world.game_server("lobby");
    let mut alice = world.caller("lobby", "alice").await;
    let bob = world.caller("lobby", "bob").await;
    alice.is_heard_by(&[&bob]).await;
    assert_eq!(game_server.says(json!({"positions": {}})).await, 0);
    drop((alice, bob));
    world.settles("sfu_peers", "", 0.0).await;
    world.settles("sfu_rooms", "", 1.0).await;
    let mut alice = world.caller("lobby", "alice").await;
    let bob = world.caller("lobby", "bob").await;
    alice.talk_to(&world).await;
    game_server
        .says(json!({"positions": {"alice": [0, 0], "bob": [0, 0]}}))
        .await;
    alice.is_heard_by(&[&bob]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_game_servers_may_and_are_told_what_is_wrong() {
    let world = World::start().await;
    let batch = || json!({"positions": {"alice": [0, 0]}}).to_string();
    for (claims, wanted) in [
        (json!({"rid": "lobby", "uid": "alice", "aud": "sfu"}), 403),
        (
            json!({"rid": "lobby", "uid": "alice", "sub": "connect"}),
            403,
        ),
        (
            json!({"rid": "lobby", "uid": "s", "aud": "gateway", "sub": "positions"}),
            401,
        ),
        (
            json!({"rid": "lobby", "uid": "s", "sub": "positions", "exp": 1}),
            401,
        ),
        (
            json!({"rid": ["a", "b"], "uid": "s", "sub": "positions"}),
            403,
        ),
    ] {
        let game_server = world.game_server_with(&claims);
        let (status, answer) = game_server.post(batch()).await;
        assert_eq!(status, wanted, "{claims}: {answer}");
        assert!(answer["error"].is_string());
    }
    let game_server = world.game_server("lobby");
    let several =
        world.game_server_with(&json!({"rid": ["a", "b"], "uid": "s", "sub": "Positions"}));
    assert_eq!(
        several.says(json!({"room_id": "b", "positions": {}})).await,
        0
    );
    for (body, wanted, text) in [
        ("{".to_owned(), 400, "EOF"),
        (r#"{"room_id": "other"}"#.to_owned(), 403, "does not open"),
        (r#"{"positions": {"bob": [1]}}"#.to_owned(), 400, "bob"),
        (" ".repeat(600 * 1024), 413, "bytes"),
    ] {
        let (status, answer) = game_server.post(body).await;
        let error = answer["error"].as_str().expect("a text");
        assert_eq!(status, wanted, "{error}");
        assert!(error.contains(text), "{error}");
    }
    let nobody = game_server
        .http
        .post(&game_server.url)
        .body(batch())
        .send()
        .await;
    assert_eq!(nobody.expect("an answer").status().as_u16(), 401);
    let client = world.token_for("lobby", "alice");
    assert_eq!(world.batches(&client).await.err(), Some(403));
    assert_eq!(world.batches("a.b.c").await.err(), Some(401));
    let rejected = r#"method="Positions",outcome="rejected""#;
    world.counts("sfu_calls_total", rejected, 12.0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_come_one_after_the_other_over_a_websocket() {
    let world = World::start().await;
    let mut alice = world.caller("lobby", "alice").await;
    let bob = world.caller("lobby", "bob").await;
    let game_server = world.game_server("lobby");
    let mut socket = world
        .batches(&game_server.token)
        .await
        .expect("a WebSocket");
    let batches = [
        json!({"id": 1, "positions": {"alice": [0, 0], "bob": [5, 0]}}).to_string(),
        json!({"id": "two", "positions": {"bob": [1]}}).to_string(),
        "no JSON".to_owned(),
        json!({"id": 4, "room_id": "other"}).to_string(),
        json!({"positions": {"bob": [0.5, 0]}}).to_string(),
    ];
    for batch in batches {
        socket
            .send(Message::Text(batch.into()))
            .await
            .expect("sent");
    }
    let mut answers = Vec::new();
    while answers.len() < 5 {
        let message = timeout(PATIENCE, socket.next()).await.expect("an answer");
        if let Message::Text(text) = message.expect("open").expect("a frame") {
            answers.push(serde_json::from_str::<Value>(&text).expect("JSON"));
        }
    }
    assert_eq!(answers[0], json!({"id": 1, "present": 2}));
    assert!(
        answers[1]["error"]
            .as_str()
            .is_some_and(|it| it.contains("bob"))
    );
    assert!(answers[2]["error"].is_string());
    assert_eq!(answers[3]["id"], json!(4));
    assert_eq!(answers[4], json!({"present": 1}));
    alice.is_heard_by(&[&bob]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    socket.close(None).await.expect("closed");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moderator_mutes_through_the_gateway() {
    let gateway = Gateway::start().await;
    let world = World::below(&gateway.internal_url).await;
    let (_, token) = gateway.connect("alice").await;
    let mut alice = world.caller_with(&token, "room", "alice").await;
    let (_, token) = gateway.connect("bob").await;
    let bob = world.caller_with(&token, "room", "bob").await;
    alice.is_heard_by(&[&bob]).await;
    // The gateway knows of a room what the server last reported.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let of_alice = json!({"room_id": "room", "user_id": "alice"});
    let for_bob = json!({"room_id": "room", "user_id": "alice", "listener_id": "bob"});
    gateway.moderate("RoomMuteClient", for_bob.clone()).await;
    gateway.moderate("RoomMuteClient", of_alice.clone()).await;
    let muted = async {
        while world.drops("muted").await == 0.0 {
            alice.talk_to(&world).await;
        }
    };
    timeout(PATIENCE, muted).await.expect("muted");
    gateway.moderate("RoomUnmuteClient", of_alice).await;
    alice.is_unmuted(&world).await;
    let sent = world.count("sfu_packets_out_total", "").await;
    alice.talk_to(&world).await;
    assert_eq!(
        world.count("sfu_packets_out_total", "").await,
        sent,
        "bob does not hear her"
    );
    gateway.moderate("RoomUnmuteClient", for_bob).await;
    let heard = async {
        while world.count("sfu_packets_out_total", "").await == sent {
            alice.talk_to(&world).await;
        }
    };
    timeout(PATIENCE, heard).await.expect("bob hears her");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_drains_those_inside_are_still_moved() {
    let mut world = World::start_draining("", PATIENCE).await;
    let mut alice = world.caller("lobby", "alice").await;
    let bob = world.caller("lobby", "bob").await;
    let game_server = world.game_server("lobby");
    let apart = json!({"positions": {"alice": [0, 0], "bob": [5, 0]}});
    assert_eq!(game_server.says(apart).await, 2);
    world.end();
    timeout(PATIENCE, async { while world.readiness().await != 503 {} })
        .await
        .expect("it drains");
    let together = json!({"positions": {"bob": [0.5, 0]}});
    assert_eq!(game_server.says(together).await, 1);
    alice.is_heard_by(&[&bob]).await;
    let another = world.game_server("another");
    let (status, answer) = another.post(r#"{"positions": {}}"#).await;
    assert_eq!(status, 503, "{answer}");
    world.hurry();
    world.stop().await;
}
