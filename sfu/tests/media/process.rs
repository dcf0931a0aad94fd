//! The voice server as a process of its own, whose memory can be looked at.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sfu::Ended;
use tokio::sync::oneshot;

use crate::{
    client::trusting,
    world::{World, credentials, settings},
};

/// A running server; ends with its value.
struct Process(Child);

impl Process {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it as an operator would, and waits.
    fn end(&mut self) {
        let pid = Pid::from_raw(self.pid().try_into().expect("a number of a process"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        assert!(self.0.wait().expect("a child").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Mostly it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with more settings, and the number of its process.
pub(crate) async fn start(more: &str) -> (World, u32) {
    let (key, certificate) = credentials();
    let text = settings(&key, &certificate, more);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("config.toml");
    fs::write(&file, text).expect("a file");
    let child = Command::new(env!("CARGO_BIN_EXE_sfu"))
        .arg("--config")
        .arg(&file)
        .args(["--log-format", "json"])
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server's program");
    let mut process = Process(child);
    let pid = process.pid();
    let log = process.0.stderr.take().expect("its log");
    let listening = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let listening = lines.find(|line| line.contains("\"listening\""));
        // The rest is read, so that the server can write it.
        std::thread::spawn(move || lines.for_each(drop));
        listening.expect("it listens")
    });
    let listening = tokio::time::timeout(Duration::from_secs(30), listening)
        .await
        .expect("it starts in time")
        .expect("no panic");
    let line: serde_json::Value = serde_json::from_str(&listening).expect("JSON");
    let address = |name: &str| -> SocketAddr {
        let text = line["fields"][name].as_str().expect("a text");
        text.parse().expect("an address")
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(async move {
        let _directory = directory;
        // Dropped or sent, it means the same.
        let _ = stopped.await;
        process.end();
        Ended::Asked
    });
    let world = World {
        http: address("http"),
        webrtc: address("webrtc"),
        metrics: address("metrics"),
        tls: trusting(&certificate.files().certificate_file),
        key,
        operator: reqwest::Client::new(),
        stop: Some(stop),
        hurry: None,
        ended,
        _certificate: certificate,
    };
    (world, pid)
}

/// What a process has in memory, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|it| it.parse().ok()).expect("a number")
}
