//! What must not work. Each test is named for what it keeps from happening.

use std::{io::Write as _, process::Command, time::Duration};

use base64::{
    Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD,
};
use gateway::{InternalUser, RoomMatch, UnknownCustomers};
use gateway_api::{KeyPair, Token, sign};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::world::{ALL, Answer, SERVER, World, customer, key, message, now, request};

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn users() -> Vec<InternalUser> {
    vec![InternalUser {
        name: "sfu".to_owned(),
        password: "secret".to_owned().into(),
    }]
}

fn assert_refused(answer: &Answer, text: &str) {
    assert_eq!(answer.0, 500, "{answer:?}");
    assert_eq!(message(answer), text);
}

#[tokio::test]
async fn an_unsigned_token_is_not_believed() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    let kid = world.key.id();
    let claims = part(&world.claims(json!({})));
    for (alg, text) in [
        ("none", "token has not been signed"),
        ("None", "unsupported alg in token"),
        ("NONE", "unsupported alg in token"),
        ("", "unsupported alg in token"),
    ] {
        let header = part(&json!({"alg": alg, "kid": kid}));
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{claims}.{signature}");
            assert_refused(&world.call("Connect", json!({}), &token).await, text);
        }
    }
}

#[tokio::test]
async fn the_public_key_as_hmac_secret_forges_no_token() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    let x = world.key.public().x();
    let bytes = URL_SAFE_NO_PAD.decode(&x).unwrap();
    for alg in ["HS256", "EdDSA"] {
        let header = part(&json!({"alg": alg, "kid": world.key.id()}));
        let signed = format!("{header}.{}", part(&world.claims(json!({}))));
        for secret in [bytes.as_slice(), x.as_bytes()] {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
            mac.update(signed.as_bytes());
            let token = format!(
                "{signed}.{}",
                URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
            );
            let text = match alg {
                "HS256" => "unsupported alg in token",
                _ => "Expected 64 bytes",
            };
            assert_refused(&world.call("Connect", json!({}), &token).await, text);
        }
    }
}

#[tokio::test]
async fn a_key_does_not_sign_under_the_id_of_another() {
    let customers = vec![customer("studio", &key(1)), customer("rival", &key(2))];
    let source = gateway::CustomerSource::Static(customers);
    let world = World::with(|config| config.customers = source).await;
    world.room_on(SERVER).await;
    for forger in [key(2), key(3), world.master.server_key(SERVER)] {
        let mut jwk = forger.private_jwk();
        jwk.kid = world.key.id().clone();
        let forger: KeyPair = jwk.key_pair().unwrap().unwrap();
        let token = sign(&world.claims(json!({})), &forger);
        let answer = world.call("Connect", json!({}), &token).await;
        assert_refused(&answer, "invalid signature in token");
    }
    let stranger = sign(&world.claims(json!({})), &key(3));
    assert_refused(
        &world.call("Connect", json!({}), &stranger).await,
        "not authorized",
    );
}

#[tokio::test]
async fn a_token_is_not_taken_long_after_its_time() {
    let world = World::with(|config| config.token_leeway = Duration::from_secs(10)).await;
    world.room_on(SERVER).await;
    let late = world.connect(json!({"exp": now() - 12})).await;
    assert_refused(&late, "token has expired");
    let early = world.connect(json!({"nbf": now() + 12})).await;
    assert_refused(&early, "token not yet valid");
    assert!(world.connect(json!({"exp": now() - 5})).await.1["result"].is_object());
}

#[tokio::test]
async fn only_a_token_that_names_positions_is_given_them() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    let both = json!(["connect", "positions"]);
    let plain = json!("connect");
    for (claims, sub) in [
        (json!({"sub": ["connect", "positions"]}), &both),
        (json!({"sub": ["POSITIONS", "RoomClose", "Connect"]}), &both),
        (json!({"sub": "connect"}), &plain),
        (json!({"sub": ["connect", "position", "roomclose"]}), &plain),
        (json!({}), &plain),
    ] {
        let answer = world.connect(claims.clone()).await;
        let token = answer.1["result"]["token"].as_str().expect("a token");
        let key = world.master.server_key(SERVER).public();
        let session = Token::read(token).unwrap().verify(&key).unwrap();
        assert_eq!(&session.claims().unwrap()["sub"], sub, "{claims}");
    }
    let alone = world.connect(json!({"sub": "positions"})).await;
    assert_eq!(alone.0, 403, "it is no method: {alone:?}");
}

#[tokio::test]
async fn a_session_token_opens_nothing_at_the_gateway() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    let session = world.connect(json!({})).await.1["result"]["token"].clone();
    let answer = world
        .call("Connect", json!({}), session.as_str().unwrap())
        .await;
    assert_refused(&answer, "token audience does not match");
}

#[tokio::test]
async fn a_token_for_one_room_moderates_no_room_of_a_longer_name() {
    let world = World::start().await;
    world
        .report(SERVER, &["room", "room-2", ""], json!({}))
        .await;
    let close = |rid: &str, room: &str| {
        let token = world.token(json!({"rid": rid}));
        let params = json!({"room_id": room});
        let world = &world;
        async move { world.call("RoomClose", params, &token).await }
    };
    for (rid, room) in [
        ("room", "room-2"),
        ("", "room"),
        ("room-2", "room"),
        ("roo", "room"),
    ] {
        let answer = close(rid, room).await;
        let text = "room_id param does not match rid in authorization token";
        assert_eq!(message(&answer), text, "{rid} {room}");
    }
    assert!(close("room", "room").await.1["result"].is_object());

    let prefix = World::with(|config| config.room_match = RoomMatch::Prefix).await;
    prefix.report(SERVER, &["room-2"], json!({})).await;
    let token = prefix.token(json!({}));
    let answer = prefix
        .call("RoomClose", json!({"room_id": "room-2"}), &token)
        .await;
    assert!(
        answer.1["result"].is_object(),
        "said in so many words, it is allowed"
    );
}

#[tokio::test]
async fn a_token_of_one_customer_reaches_no_room_of_another() {
    let customers = vec![customer("studio", &key(1)), customer("rival", &key(2))];
    let source = gateway::CustomerSource::Static(customers);
    let world = World::with(|config| config.customers = source).await;
    world.room_on(SERVER).await;
    let claims = world.claims(json!({"cid": "studio", "nsp": "studio"}));
    let rival = sign(&claims, &key(2));
    let answer = world
        .call("RoomClose", json!({"room_id": "room"}), &rival)
        .await;
    assert_eq!(message(&answer), "no server for room found");
}

#[tokio::test]
async fn a_customers_token_does_not_open_the_internal_route() {
    let world = World::with(|config| {
        config.internal.listen = None;
        config.internal.users = users();
    })
    .await;
    let info = || request("Info", &json!({}));
    for changes in [
        json!({}),
        json!({"sub": "Info"}),
        json!({"sub": ["info", "getconfig"]}),
    ] {
        let bearer = format!("Bearer {}", world.token(changes));
        let answer = world.post(&world.internal, Some(&bearer), info()).await;
        assert_eq!(
            (answer.0, message(&answer)),
            (403, "access denied by token restrictions")
        );
    }
    let basic = |secret: &str| format!("Basic {}", STANDARD.encode(secret));
    for wrong in [
        "sfu:wrong",
        "sfu:",
        "sfu",
        "other:secret",
        "sfu:secret:more",
        "SFU:secret",
    ] {
        let answer = world
            .post(&world.internal, Some(&basic(wrong)), info())
            .await;
        assert_refused(&answer, "invalid credentials");
    }
    assert_eq!(world.post(&world.internal, None, info()).await.0, 401);
    let right = world
        .post(&world.internal, Some(&basic("sfu:secret")), info())
        .await;
    assert!(right.1["result"].is_object());
}

#[tokio::test]
async fn the_internal_route_is_not_on_the_customers_port() {
    let world = World::start().await;
    for path in ["/internal", "/metrics"] {
        let answer = world
            .post(
                &format!("{}{path}", world.base),
                None,
                request("Info", &json!({})),
            )
            .await;
        assert_eq!(answer.0, 404, "{path}");
    }
    let outside = world.internal.replace("/internal", "/");
    assert_eq!(world.post(&outside, None, "{}").await.0, 404);
}

#[tokio::test]
async fn metrics_are_not_for_everybody() {
    let world = World::with(|config| {
        config.internal.listen = None;
        config.internal.users = users();
    })
    .await;
    let metrics = format!("{}/metrics", world.base);
    assert_eq!(world.http.get(&metrics).send().await.unwrap().status(), 401);
    let right = world
        .http
        .get(&metrics)
        .basic_auth("sfu", Some("secret"))
        .send()
        .await
        .unwrap();
    assert_eq!(right.status(), 200);
    let bearer = world
        .http
        .get(&metrics)
        .bearer_auth(world.token(json!({})))
        .send()
        .await
        .unwrap();
    assert_eq!(bearer.status(), 403);
}

#[tokio::test]
async fn an_unknown_key_does_not_become_a_customer_unless_said() {
    let demo = World::with(|config| config.unknown_customers = UnknownCustomers::Unlimited).await;
    demo.room_on(SERVER).await;
    // A known customer's tokens are checked all the same, and a claim does not choose the namespace.
    let mut jwk = key(5).private_jwk();
    jwk.kid = demo.key.id().clone();
    let forged = sign(&demo.claims(json!({})), &jwk.key_pair().unwrap().unwrap());
    let answer = demo.call("Connect", json!({}), &forged).await;
    assert_refused(&answer, "invalid signature in token");
    let claims = demo.claims(json!({"cid": "studio", "nsp": "studio"}));
    let answer = demo
        .call(
            "RoomClose",
            json!({"room_id": "room"}),
            &sign(&claims, &key(5)),
        )
        .await;
    assert_eq!(message(&answer), "no server for room found");
}

#[tokio::test]
async fn a_second_report_of_a_colliding_room_does_not_steal_it() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    for _ in 0..3 {
        let tasks = world.report("thief.test:4433", &["room"], json!({})).await;
        assert_eq!(
            tasks[0]["task"], "RoomClose",
            "every time it is told to close"
        );
        let answer = world.connect(json!({})).await;
        assert_eq!(answer.1["result"]["address"], SERVER);
    }
}

#[tokio::test]
async fn numbers_out_of_range_do_not_reach_a_server() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    let token = world.token(json!({"sub": ALL}));
    for (method, params) in [
        ("RoomUpdate", json!({"room_id": "room", "user_data": [300]})),
        ("RoomUpdate", json!({"room_id": "room", "user_data": [-1]})),
        ("RoomUpdate", json!({"room_id": "room", "user_data": [1.5]})),
        (
            "RoomSendMessage",
            json!({"room_id": "room", "user_id": "a", "message": [256]}),
        ),
        ("RoomClose", json!({"room_id": "room", "ban_time": -2})),
        (
            "RoomBanClient",
            json!({"room_id": "room", "user_id": "a", "ban_time": 1e12}),
        ),
        (
            "RoomMuteClient",
            json!({"room_id": "room", "user_id": "a", "mute_time": 1e12}),
        ),
    ] {
        let answer = world.call(method, params.clone(), &token).await;
        assert_eq!(
            answer.1["error"]["code"], -32600,
            "{method} {params}: {answer:?}"
        );
    }
    assert_eq!(world.report(SERVER, &["room"], json!({})).await, json!([]));
}

#[test]
fn the_sample_master_key_starts_no_gateway() {
    let mut settings = tempfile::NamedTempFile::new().unwrap();
    settings
        .write_all(b"unknown_customers = \"unlimited\"\n[internal]\nlisten = \"127.0.0.1:0\"\n")
        .unwrap();
    let check = |key: &str| {
        Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["--check-config", "--config"])
            .arg(settings.path())
            .env("BIFROST_GATEWAY_MASTER_KEY", key)
            .output()
            .unwrap()
    };
    let sample = check("VGhpcyBpcyBhIHN1cGVyIHNlY3JldCBtYXN0ZXIga2V5IQ==");
    let words = String::from_utf8_lossy(&sample.stderr);
    assert_eq!(sample.status.code(), Some(64));
    assert!(words.contains("sample master key"), "{words}");
    assert!(!words.contains("VGhpcyBp"), "the key is not shown: {words}");
    assert_eq!(check("Uk5HLXRoYXQtbm9ib2R5LWtub3dz").status.code(), Some(0));
}
