//! Short runs against the real voice server and the relay: everything that is said is heard, and the account says so.

use std::{net::SocketAddr, path::Path};

use clap::Parser;
use gateway_api::{AccessKey, RANDOM_BYTES};
use serde_json::{Value, json};
use sfu::{Config, SelfSigned, Server};
use tokio::{sync::oneshot, task::JoinHandle};
use voice_load::Options;

/// What is said later counts.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// Two rooms of four, in each of which one talks for a second.
const SMALL: &[&str] = &[
    "load",
    "--rooms",
    "2",
    "--peers",
    "4",
    "--talkers",
    "1",
    "--duration",
    "1",
    "--warm-up",
    "0.2",
    "--json",
    "-",
];

/// Packets that a second of this holds, each heard by three.
const SAID: u64 = 2 * 50;

async fn load(more: &[&str]) -> Value {
    let line = Line::parse_from(SMALL.iter().chain(more));
    let text = voice_load::command(line.options).await.expect("a run");
    serde_json::from_str(&text).expect("JSON")
}

struct World {
    http: SocketAddr,
    quic: SocketAddr,
    metrics: SocketAddr,
    key: AccessKey,
    certificate: SelfSigned,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<sfu::Ended>,
}

impl World {
    async fn start() -> Self {
        let key = AccessKey::from_random(&[7; RANDOM_BYTES]);
        let loopback = ["127.0.0.1".parse().expect("an address")];
        let certificate = SelfSigned::new(&loopback).expect("a certificate");
        let jwk = key.key_pair().public_jwk();
        let files = certificate.files();
        let settings = json!({
            "public_address": "127.0.0.1:1",
            "authorization": {"keys": [{"kid": jwk.kid, "kty": jwk.kty, "crv": jwk.crv, "x": jwk.x}]},
            "http": {
                "binding": "127.0.0.1:0",
                "webrtc_binding": "127.0.0.1:0",
                "webrtc_candidates": ["127.0.0.1"],
                "certificate_file": files.certificate_file,
                "privatekey_file": files.privatekey_file,
            },
            "quic": {
                "binding": "127.0.0.1:0",
                // A packet of the handshake that is lost comes again after a second at the earliest.
                "connect_timeout": 30_000,
                "certificate_file": files.certificate_file,
                "privatekey_file": files.privatekey_file,
            },
            "metrics": {"binding": "127.0.0.1:0"},
        });
        let text = toml::to_string(&settings).expect("TOML");
        let config = Config::parse(Path::new("test"), &text, Default::default()).expect("settings");
        let server = Server::bind(config, None).await.expect("free ports");
        let address = |address: Option<SocketAddr>| address.expect("it listens");
        let (http, quic) = (address(server.http_addr()), address(server.quic_addr()));
        let metrics = address(server.metrics_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let never = std::future::pending();
        let ended = tokio::spawn(server.run(shutdown, never, std::time::Duration::ZERO));
        Self {
            http,
            quic,
            metrics,
            key,
            certificate,
            stop,
            ended,
        }
    }

    async fn load(&self, more: &[&str]) -> Value {
        let (address, key) = (self.http.to_string(), self.key.expose());
        let trust = self.certificate.files().certificate_file;
        let trust = trust.to_str().expect("a path");
        let metrics = format!("http://{}/metrics", self.metrics);
        let pid = std::process::id().to_string();
        let mut arguments = vec!["--server", &address, "--access-key", &key, "--trust", trust];
        let quic = self.quic.to_string();
        arguments.extend(["--metrics", &metrics, "--pid", &pid, "--quic", &quic]);
        arguments.extend(more);
        Box::pin(load(&arguments)).await
    }

    async fn end(self) {
        let _ = self.stop.send(());
        assert_eq!(self.ended.await.expect("no panic"), sfu::Ended::Asked);
    }
}

/// Everything that was said was heard once by everybody else.
#[track_caller]
fn is_whole(report: &Value) {
    let whole = &report["whole"];
    let sent = report["sent"].as_u64().expect("a number");
    // When talkers begin is up to the machine; a busy one leaves packets out, and says so.
    assert!((SAID / 2..=SAID + 4).contains(&sent), "{report:#}");
    assert_eq!(whole["expected"], sent * 3, "{report:#}");
    assert_eq!(whole["received"], sent * 3, "{report:#}");
    for nothing in ["lost", "duplicates", "misdelivered"] {
        assert_eq!(whole[nothing], 0, "{nothing}: {report:#}");
    }
    assert!(whole["latency"]["p50_us"].as_f64().expect("a number") > 0.0);
    let listeners = report["listeners"].as_array().expect("a list");
    assert_eq!(listeners.len(), 8);
    for listener in listeners {
        let talks = listener["peer"].as_u64().expect("a number") % 4 == 0;
        let heard = listener["received"].as_u64().expect("a number");
        assert_eq!(heard > 0, !talks, "who talks hears nobody: {listener:#}");
    }
    assert_eq!(report["generator"]["unsent"], 0);
    assert_eq!(report["generator"]["present"], 8);
}

/// Whatever else there may be to say on a busy machine.
#[track_caller]
fn nobody_was_thrown_out(report: &Value) {
    let warnings = report["warnings"].to_string();
    for word in ["is out", "ended", "reached somebody"] {
        assert!(!warnings.contains(word), "{warnings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_channels_lose_nothing() {
    let world = World::start().await;
    let report = world.load(&[]).await;
    is_whole(&report);
    assert_eq!(report["by_transport"]["data-channel"]["lost"], 0);
    let sent = report["sent"].as_u64().expect("a number");
    // The server counts as well, from a moment before, which a busy machine makes longer.
    let server = report["metrics"]["packets_out"].as_u64().expect("a number");
    assert!((sent * 3..=sent * 3 + 300).contains(&server), "{report:#}");
    assert_eq!(report["metrics"]["drops"], json!({}));
    assert!(
        report["server"]["us_per_forward"]
            .as_f64()
            .expect("a number")
            > 0.0
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_transport_loses_nothing() {
    let world = World::start().await;
    let report = world.load(&["--data-channels", "0"]).await;
    is_whole(&report);
    assert_eq!(report["by_transport"]["web-transport"]["lost"], 0);
    nobody_was_thrown_out(&report);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_both_transports_hear_each_other() {
    let world = World::start().await;
    let more = [
        "--data-channels",
        "50",
        "--pattern",
        "speech",
        "--duration",
        "3",
    ];
    let report = world.load(&more).await;
    let by = &report["by_transport"];
    for transport in ["data-channel", "web-transport"] {
        assert_eq!(by[transport]["lost"], 0, "{report:#}");
        assert!(
            by[transport]["received"].as_u64().expect("a number") > 0,
            "{report:#}"
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_moves_leaves_and_comes_again_is_owed_nothing_for_it() {
    let world = World::start().await;
    let more = [
        "--churn",
        "4",
        "--moves",
        "5",
        "--duration",
        "2",
        "--data-channels",
        "50",
    ];
    let report = world.load(&more).await;
    let whole = &report["whole"];
    assert!(whole["expected"].as_u64().expect("a number") > 0);
    assert_eq!(
        (&whole["lost"], &whole["misdelivered"]),
        (&json!(0), &json!(0)),
        "{report:#}"
    );
    nobody_was_thrown_out(&report);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_a_bad_network_stay_up_and_lose_what_it_takes() {
    let world = World::start().await;
    let more = [
        "--data-channels",
        "50",
        "--duration",
        "20",
        "--warm-up",
        "1",
        "--look",
        "5",
        "--relay-loss",
        "5",
        "--relay-delay-ms",
        "40",
        "--relay-jitter-ms",
        "30",
        "--relay-duplicates",
        "1",
        "--relay-seed",
        "1",
    ];
    let report = world.load(&more).await;
    for transport in ["data-channel", "web-transport"] {
        let figures = &report["by_transport"][transport];
        let loss = figures["loss"].as_f64().expect("a number");
        // Two ways through it: 9.75 %.
        assert!((0.05..0.15).contains(&loss), "{transport}: {report:#}");
        assert!(figures["reordered"].as_u64().expect("a number") > 0);
        assert_eq!(figures["duplicates"], 0, "{report:#}");
    }
    let relay = &report["relay"];
    for some in ["lost", "doubled"] {
        assert!(relay[some].as_u64().expect("a number") > 0, "{relay:#}");
    }
    assert_eq!(relay["overflowed"], 0, "{relay:#}");
    let course = report["course"].as_array().expect("looks");
    assert_eq!(course.len(), 4);
    for look in course {
        assert_eq!(
            (&look["present"], &look["clients"], &look["peers"]),
            (&json!(8), &json!(8), &json!(8)),
            "{look:#}"
        );
        assert!(look["forwards"]["count"].as_u64().expect("a number") > 0);
    }
    let generator = &report["generator"];
    for none in ["ended", "thrown_out"] {
        assert_eq!(generator[none], 0, "{report:#}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_watched_from_before_anybody_comes_until_everybody_has_left() {
    let world = World::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("samples.jsonl");
    let mut more = vec!["--samples", file.to_str().expect("a path")];
    more.extend(["--sample-every", "0.1", "--settle", "2"]);
    more.extend(["--silent-ramp", "--then", "1", "--then-talkers", "1"]);
    let report = world.load(&more).await;
    is_whole(&report);
    let then = &report["then"];
    assert!(then["expected"].as_u64().expect("a number") > 0);
    assert_eq!(then["lost"], 0, "{report:#}");
    let text = std::fs::read_to_string(&file).expect("samples");
    let samples = text.lines().map(serde_json::from_str::<Value>);
    let samples: Vec<_> = samples.map(|it| it.expect("JSON")).collect();
    let mut stages: Vec<_> = samples.iter().map(|it| it["stage"].to_string()).collect();
    stages.dedup();
    for stage in ["before", "counting", "then", "after"] {
        assert!(stages.contains(&format!("\"{stage}\"")), "{stages:?}");
    }
    let silent = samples.iter().filter(|it| it["stage"] == "coming");
    assert!(silent.clone().all(|it| it["sent"] == 0), "{samples:#?}");
    let last = samples.last().expect("samples");
    let metric = |name: &str| last["metrics"][name].as_f64();
    assert!(last["process"]["files"].as_u64().expect("a number") > 3);
    for gauge in ["sfu_peers", "sfu_rooms", "sfu_shard_stream_budget"] {
        assert_eq!(metric(gauge), Some(0.0), "{gauge}: {last:#}");
    }
    assert_eq!(metric("sfu_packets_in_total"), last["sent"].as_f64());
    assert_eq!(metric("sfu_packets_out_total"), last["heard"].as_f64());
    assert_eq!(metric("sfu_drops_total/late"), Some(0.0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_relay_loses_nothing() {
    let relay = env!("CARGO_BIN_EXE_voice-floor");
    let report = load(&["--floor", "--server-program", relay]).await;
    is_whole(&report);
    assert_eq!(report["by_transport"]["floor"]["lost"], 0);
    assert!(
        report["server"]["us_per_forward"]
            .as_f64()
            .expect("a number")
            > 0.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_server_does_not_know_is_refused_and_said() {
    let world = World::start().await;
    let trust = world.certificate.files().certificate_file;
    let stranger = AccessKey::from_random(&[8; RANDOM_BYTES]).expose();
    let address = world.http.to_string();
    let arguments = ["--server", &address, "--access-key", &stranger, "--trust"];
    let line = Line::parse_from(
        SMALL
            .iter()
            .copied()
            .chain(arguments)
            .chain([trust.to_str().expect("a path")]),
    );
    let error = voice_load::command(line.options)
        .await
        .expect_err("refused");
    let error = format!("{error:#}");
    assert!(
        error.contains("peer ") && error.contains("Authenticate"),
        "{error}"
    );
    world.end().await;
}
