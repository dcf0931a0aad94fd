//! The gateway as an operator meets it: health, metrics, certificates, signals, exit codes.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use gateway::{Pools, Tls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};

use crate::world::{Process, SERVER, World, eventually, message, request};

#[tokio::test]
async fn health_and_metrics_tell_what_is_there() {
    let world = World::start().await;
    world.room_on(SERVER).await;
    world.connect(json!({})).await;
    let mute = json!({"room_id": "room", "user_id": "bob"});
    let token = world.token(json!({}));
    world.call("RoomMuteClient", mute, &token).await;
    world.connect(json!({"exp": 1})).await;
    let get = async |url: String| {
        let answer = world.http.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for base in [world.base.clone(), world.internal.replace("/internal", "")] {
        assert_eq!(get(format!("{base}/healthz")).await.0, 200);
        let (status, ready) = get(format!("{base}/readyz")).await;
        let ready: Value = serde_json::from_str(&ready).unwrap();
        assert_eq!((status, &ready["status"]), (200, &json!("ok")));
        assert_eq!(ready["customers"]["keys"], 1);
    }
    let (_, metrics) = get(world.internal.replace("/internal", "/metrics")).await;
    for line in [
        r#"bifrost_gateway_calls_total{method="Connect",outcome="success"} 1"#,
        r#"bifrost_gateway_calls_total{method="sfu.Report",outcome="success"} 1"#,
        r#"bifrost_gateway_denied_total{reason="time"} 1"#,
        r#"bifrost_gateway_servers{pool="",state="enabled"} 1"#,
        r#"bifrost_gateway_rooms{pool=""} 1"#,
        r#"bifrost_gateway_mutes{pool=""} 1"#,
        "bifrost_gateway_store_online 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("bob"), "users are no labels");
}

#[tokio::test]
async fn pools_share_nothing() {
    let pools = Pools {
        available: vec!["main".to_owned(), "beta".to_owned()],
        default: "main".to_owned(),
    };
    let world = World::with(|config| {
        config.pools = Some(pools);
        config.internal.listen = None;
        config.internal.allow_unauthenticated = true;
    })
    .await;
    let call = async |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let body = request("Connect", &json!({}));
        world
            .post(&format!("{}{path}", world.base), Some(&bearer), body)
            .await
    };
    let report = async |path: &str, address: &str| {
        let params = json!({"public_endpoint": address, "version": "1", "load": 0, "clients": 0, "rooms": []});
        let body = request("sfu.Report", &params);
        assert_eq!(
            world
                .post(&format!("{}{path}", world.base), None, body)
                .await
                .0,
            200
        );
    };
    report("/internal", "main.test:1").await;
    report("/beta/internal", "beta.test:1").await;
    let token = world.token(json!({}));
    for (path, address) in [
        ("/", "main.test:1"),
        ("/main/", "main.test:1"),
        ("/beta/", "beta.test:1"),
    ] {
        let answer = call(path, &token).await;
        assert_eq!(answer.1["result"]["address"], address, "{path}");
    }
    let forced = world.token(json!({"rid": "new", "internal": {"server": "beta.test:1"}}));
    assert_eq!(
        message(&call("/", &forced).await),
        "no server to assign room too"
    );
    let wish = |room: &str, prefer: Value| {
        world.token(json!({"rid": room, "internal": {"prefer": prefer}}))
    };
    let there = wish("new", json!("beta.test:1"));
    for (path, address) in [("/beta/", "beta.test:1"), ("/", "main.test:1")] {
        let answer = call(path, &there).await;
        assert_eq!(answer.1["result"]["address"], address, "{path}");
    }
    let forced = json!({"server": "nobody.test:1", "prefer": "main.test:1"});
    let forced = world.token(json!({"rid": "newer", "internal": forced}));
    assert_eq!(
        message(&call("/", &forced).await),
        "no server to assign room too"
    );
    let malformed = call("/", &wish("newer", json!(7))).await.1;
    assert_eq!(
        malformed["error"]["data"]["fieldErrors"],
        json!({"internal": ["Expected string"]}),
        "{malformed}"
    );
    assert_eq!(call("/other/", &token).await.0, 404);
}

/// Writes a new certificate for 127.0.0.1; gives its PEM.
fn write_certificate(files: &Tls) -> String {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(&files.certificate, cert.pem()).unwrap();
    fs::write(&files.private_key, signing_key.serialize_pem()).unwrap();
    cert.pem()
}

fn trusting(pem: &str) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([certificate]);
    client.build().unwrap()
}

fn settings(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("gateway.toml");
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"unknown_customers = \"unlimited\"\nallow_unauthenticated_internal = true\n")
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path
}

fn gateway(arguments: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.args(arguments).arg("--config").arg(config);
    command.env(
        "BIFROST_GATEWAY_MASTER_KEY",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    );
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[tokio::test]
async fn a_certificate_is_replaced_on_sighup_and_a_broken_one_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let files = Tls {
        certificate: folder.path().join("cert.pem"),
        private_key: folder.path().join("key.pem"),
    };
    let first = write_certificate(&files);
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = settings(folder.path(), "");
    let port = free.port().to_string();
    let (certificate, key) = (
        files.certificate.to_str().unwrap(),
        files.private_key.to_str().unwrap(),
    );
    let flags = [
        "--host",
        "127.0.0.1",
        "--port",
        &port,
        "--ssl",
        "--certificate",
        certificate,
        "--privatekey",
        key,
    ];
    let process = Process(gateway(&flags, &config).spawn().unwrap());

    let url = format!("https://{free}/healthz");
    let is_served = async |pem: &str| trusting(pem).get(&url).send().await.is_ok();
    eventually(async || is_served(&first).await, "HTTPS is served").await;
    let second = write_certificate(&files);
    assert!(!is_served(&second).await);
    process.signal("HUP");
    eventually(
        async || is_served(&second).await,
        "the new certificate is served",
    )
    .await;
    assert!(!is_served(&first).await);
    fs::write(&files.certificate, "broken").unwrap();
    process.signal("HUP");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(is_served(&second).await, "the last good one stays");
}

#[tokio::test]
async fn sigterm_lets_open_calls_end() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = settings(folder.path(), &format!("listen = \"{free}\"\n"));
    let mut process = Process(gateway(&["--log-format", "json"], &config).spawn().unwrap());
    let up = async || tokio::net::TcpStream::connect(free).await.is_ok();
    eventually(up, "the gateway listens").await;
    let params = json!({
        "public_endpoint": SERVER, "version": "1", "load": 0, "clients": 0, "rooms": [], "wait_ms": 1_000,
    });
    let report = reqwest::Client::new()
        .post(format!("http://{free}/internal"))
        .body(request("sfu.Report", &params))
        .send();
    let report = tokio::spawn(report);
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.signal("TERM");
    assert_eq!(report.await.unwrap().unwrap().status(), 200);
    eventually(
        async || process.0.try_wait().unwrap().is_some(),
        "the gateway ends",
    )
    .await;
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
}

#[test]
fn wrong_settings_and_flags_end_in_64() {
    let folder = tempfile::tempdir().unwrap();
    let code = |arguments: &[&str], text: &str| {
        let config = settings(folder.path(), text);
        gateway(arguments, &config).status().unwrap().code()
    };
    assert_eq!(code(&["--check-config"], ""), Some(0));
    for (arguments, text) in [
        (&["--check-config"][..], "listen = 5"),
        (
            &["--check-config"],
            "[tls]\ncertificate = \"/no\"\nprivate_key = \"/such\"",
        ),
        (&["--check-config", "--ssl"], ""),
        (&["--certificate", "a"], ""),
        (&["--ssl", "--certificate", "a"], ""),
        (&["--nonsense"], ""),
        (&["--port", "70000"], ""),
    ] {
        assert_eq!(code(arguments, text), Some(64), "{arguments:?} {text}");
    }
}
