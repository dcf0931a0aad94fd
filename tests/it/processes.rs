//! The programs as an operator meets them: exit codes, sentences, signals.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde_json::Value;

const TOKEN: &str = "local-development-token";
const PATIENCE: Duration = Duration::from_secs(20);

/// A program of this workspace, built the way this test was. `cargo test` alone does not build them all.
fn program(name: &str) -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let test = env::current_exe().expect("a path");
        let folder = test
            .parent()
            .and_then(Path::parent)
            .expect("target/debug/deps");
        let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "--locked", "--bins"]);
        build.args([
            "-p",
            "mock-fleet",
            "-p",
            "fleet-bridge",
            "-p",
            "mock-game-server",
        ]);
        build
            .arg("--target-dir")
            .arg(folder.parent().expect("target"));
        assert!(build.status().expect("cargo").success(), "{build:?}");
        folder.to_owned()
    });
    let mut command = Command::new(folder.join(name));
    for name in [
        "ODIN_APP_ID",
        "ODIN_API_TOKEN",
        "ODIN_API_URL",
        "ODIN_SERVICE_ID",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command
}

/// Ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().expect("it starts"))
    }

    /// Sends SIGTERM and waits for the exit code.
    fn terminate(mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill").success());
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end");
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}

async fn get(url: &str) -> Value {
    let http = reqwest::Client::new();
    let asked = Instant::now();
    loop {
        match http.get(url).bearer_auth(TOKEN).send().await {
            Ok(response) => return response.json().await.expect("JSON"),
            Err(error) => assert!(asked.elapsed() < PATIENCE, "{url}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn refused(output: &Output, text: &str) {
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{words}");
    assert!(words.contains(text), "{words}");
}

#[test]
fn bad_settings_end_with_64_and_a_sentence() {
    let bridge = || program("fleet-bridge");
    refused(
        &bridge().output().expect("it runs"),
        "ODIN_APP_ID is not set",
    );
    let app = |command: &mut Command| {
        let with_app = command.env("ODIN_APP_ID", "1").env("ODIN_API_TOKEN", "t");
        with_app.output().expect("it runs")
    };
    refused(&app(bridge().args(["--listen", "0.0.0.0:0"])), "--insecure");
    refused(
        &app(bridge().args(["--config", "/no/such/file"])),
        "/no/such/file",
    );
    refused(
        &app(bridge().env("ODIN_API_URL", "nowhere")),
        "ODIN_API_URL",
    );
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fleet-bridge/fleet-bridge.toml");
    let checked = app(bridge().arg("--check-config").arg("--config").arg(sample));
    assert_eq!(checked.status.code(), Some(0));
    let game = program("mock-game-server").output();
    refused(&game.expect("it runs"), "ODIN_API_TOKEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_work_together_and_end_cleanly() {
    let (fleet, control, bridge, game) = (
        free_address(),
        free_address(),
        free_address(),
        free_address(),
    );
    let mut command = program("mock-fleet");
    command.args([
        "--listen",
        &fleet.to_string(),
        "--control",
        &control.to_string(),
    ]);
    let simulator = Running::start(&mut command);
    let api = format!("http://{fleet}/api");
    let service = format!("{api}/v1/apps/1/services/101");
    assert_eq!(get(&service).await["id"], 101);

    let mut command = program("fleet-bridge");
    command.args(["--listen", &bridge.to_string(), "--log-format", "json"]);
    command
        .env("ODIN_APP_ID", "1")
        .env("ODIN_API_TOKEN", TOKEN)
        .env("ODIN_API_URL", &api);
    let bridge_process = Running::start(&mut command);
    assert_eq!(get(&format!("http://{bridge}/readyz")).await["ready"], true);

    let mut command = program("mock-game-server");
    command
        .env("ODIN_SERVICE_ID", "101")
        .env("ODIN_API_TOKEN", TOKEN)
        .env("ODIN_API_URL", &api);
    command.env("MOCK_SERVER_ADDR", game.to_string());
    command.env("ODIN_GAME_PORT", free_address().port().to_string());
    let game_process = Running::start(&mut command);
    assert_eq!(get(&format!("http://{game}/health")).await["status"], "ok");
    let instance = get(&format!("http://{bridge}/v1/instances/101")).await;
    assert_eq!(instance["metadata"]["instance_state"], "idle");

    assert_eq!(game_process.terminate(), Some(0));
    assert_eq!(get(&service).await["metadata"]["instance_state"], "stopped");
    assert_eq!(bridge_process.terminate(), Some(0));
    assert_eq!(simulator.terminate(), Some(0));
}
