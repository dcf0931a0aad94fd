//! Too much of everything: bodies, batches, calls, connections and garbage.

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
use gateway::Rate;
use gateway_api::sign;
use serde_json::{Value, json};

use crate::world::{ALL, Process, SERVER, World, eventually, key, message, request};

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
    let child = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("--config")
        .arg(settings.path())
        .env("BIFROST_GATEWAY_MASTER_KEY", STANDARD.encode([3; 32]))
        .env("RUST_LOG", "error")
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Process(child.unwrap());
    let up = async || tokio::net::TcpStream::connect(free).await.is_ok();
    eventually(up, "the gateway listens").await;
    let resident_kib = || {
        let status = fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
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
    assert!(process.0.try_wait().unwrap().is_none(), "still up");
    process.0.kill().unwrap();
    let stderr = process.0.stderr.take().unwrap();
    let words = std::io::read_to_string(stderr).unwrap();
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
            _ => request(ALL[random.usize(..ALL.len())], &json!({"room_id": length})).into_bytes(),
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
