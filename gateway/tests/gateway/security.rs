//! What must not work. Each test is named for what it keeps from happening.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    time::Duration,
};

use base64::{
    Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD,
};
use gateway::{InternalUser, Rate, RoomMatch, UnknownCustomers};
use gateway_api::{KeyPair, sign};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::world::{ALL, Answer, SERVER, World, customer, eventually, key, message, now, request};

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
    ] {
        let answer = world.call(method, params.clone(), &token).await;
        assert_eq!(
            answer.1["error"]["code"], -32600,
            "{method} {params}: {answer:?}"
        );
    }
    assert_eq!(world.report(SERVER, &["room"], json!({})).await, json!([]));
}

#[tokio::test]
async fn a_body_or_a_batch_that_is_too_large_is_refused() {
    let world = World::with(|config| {
        config.limit.body_bytes = 10_000;
        config.limit.batch = 10;
    })
    .await;
    world.room_on(SERVER).await;
    let bearer = format!("Bearer {}", world.token(json!({})));
    let large = " ".repeat(10_001);
    let answer = world.post(&world.base, Some(&bearer), large.clone()).await;
    assert_eq!(
        (answer.0, message(&answer)),
        (413, "the body is longer than 10000 bytes")
    );
    // Without a length that is announced.
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>(large)]);
    let answer = world
        .post(
            &world.base,
            Some(&bearer),
            reqwest::Body::wrap_stream(chunks),
        )
        .await;
    assert_eq!(answer.0, 413);
    let call: Value = serde_json::from_str(&request("Connect", &json!({}))).unwrap();
    let batch = json!(vec![call; 11]).to_string();
    let answer = world.post(&world.base, Some(&bearer), batch).await;
    assert_eq!(
        message(&answer),
        "a batch holds at most 10 calls, this one 11"
    );
    let nested = "[".repeat(9_000);
    let answer = world.post(&world.base, Some(&bearer), nested).await;
    assert_eq!((answer.0, message(&answer)), (400, "Parse error"));
    assert!(
        world.connect(json!({})).await.1["result"].is_object(),
        "and all is well after it"
    );
}

#[tokio::test]
async fn whoever_calls_too_often_is_told_to_wait() {
    let rate = Rate {
        per_second: 1,
        burst: 5,
    };
    let world = World::with(|config| config.limit.address = rate).await;
    let mut refused = 0;
    for _ in 0..20 {
        let answer = world
            .http
            .post(&world.base)
            .header("x-forwarded-for", "1.2.3.4")
            .send();
        let answer = answer.await.unwrap();
        if answer.status() == 429 {
            refused += 1;
            assert!(answer.headers().contains_key("retry-after"));
            assert!(answer.headers().contains_key("access-control-allow-origin"));
        }
    }
    assert!(refused >= 13, "{refused} of 20");
    assert_eq!(
        world.report(SERVER, &[], json!({})).await,
        json!([]),
        "servers are not limited"
    );
}

#[tokio::test]
async fn forged_tokens_do_not_use_up_a_customers_calls() {
    let rate = Rate {
        per_second: 1,
        burst: 3,
    };
    let world = World::with(|config| config.limit.key = rate).await;
    world.room_on(SERVER).await;
    let good = world.token(json!({}));
    let forged = format!(
        "{}.{}",
        good.rsplit_once('.').unwrap().0,
        URL_SAFE_NO_PAD.encode([7; 64])
    );
    for _ in 0..10 {
        assert_eq!(world.call("Connect", json!({}), &forged).await.0, 500);
    }
    assert!(world.connect(json!({})).await.1["result"].is_object());
    for _ in 0..5 {
        world.connect(json!({})).await;
    }
    assert_eq!(world.connect(json!({})).await.0, 429);
}

#[tokio::test]
async fn a_head_or_body_that_never_ends_holds_no_connection() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let world = World::with(|config| {
        config.limit.header_ms = 100;
        config.limit.request_deadline_ms = 100;
    })
    .await;
    let address = world.base.trim_start_matches("http://").to_owned();
    let bearer = world.token(json!({}));
    let body = format!(
        "POST / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {bearer}\r\ncontent-length: 9\r\n\r\n{{"
    );
    for start in ["POST / HTTP/1.1\r\nhost: a\r\n", &body] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ends = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(10), ends)
            .await
            .expect("it ends");
    }
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

/// 10,000 requests of nonsense leave the program up and as large as it was.
#[tokio::test]
async fn garbage_neither_stops_nor_swells_the_gateway() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut settings = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "listen = \"{free}\"\nunknown_customers = \"unlimited\"\nallow_unauthenticated_internal = true\n\
         [limit]\naddress = {{ per_second = 0, burst = 0 }}\n"
    );
    settings.write_all(text.as_bytes()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("--config")
        .arg(settings.path())
        .env("BIFROST_GATEWAY_MASTER_KEY", STANDARD.encode([3; 32]))
        .env("RUST_LOG", "error")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let up = async || tokio::net::TcpStream::connect(free).await.is_ok();
    eventually(up, "the gateway listens").await;
    let resident_kib = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let seed = 7;
    send_garbage(free, 2_000, seed).await;
    let before = resident_kib();
    send_garbage(free, 10_000, seed + 1).await;
    let grown = resident_kib().saturating_sub(before);
    assert!(
        grown < 4_096,
        "seed {seed}: grown by {grown} KiB from {before}"
    );
    assert!(child.try_wait().unwrap().is_none(), "still up");
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!words.contains("panicked"), "{words}");
}

async fn send_garbage(address: SocketAddr, count: usize, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let http = reqwest::Client::new();
    let good = sign(&json!({"rid": "r", "uid": "u"}), &key(1));
    let mut tasks = Vec::new();
    for _ in 0..count {
        let length = random.usize(..200);
        let noise: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        let printable: String = (0..length).map(|_| random.char('!'..='~')).collect();
        let mut changed = good.clone().into_bytes();
        let at = random.usize(..changed.len());
        changed[at] = b'A';
        let authorization = match random.u8(..4) {
            0 => format!("Bearer {printable}"),
            1 => format!("Bearer {}", String::from_utf8_lossy(&changed)),
            2 => format!("Basic {printable}"),
            _ => format!("Bearer {good}"),
        };
        let body = match random.u8(..4) {
            0 => noise,
            1 => printable.into_bytes(),
            2 => format!("[{}1]", "[],{},".repeat(random.usize(..20))).into_bytes(),
            _ => request(ALL[random.usize(..5)], &json!({"room_id": length})).into_bytes(),
        };
        let path = ["", "internal", "nope", "healthz"][random.usize(..4)];
        let request = http.post(format!("http://{address}/{path}")).body(body);
        tasks.push(request.header("authorization", authorization).send());
        if tasks.len() == 50 {
            for answer in futures::future::join_all(tasks.drain(..)).await {
                answer
                    .expect("an answer to anything")
                    .bytes()
                    .await
                    .expect("a body");
            }
        }
    }
}
