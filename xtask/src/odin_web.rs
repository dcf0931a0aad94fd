//! The real web client in a real browser, against `bifrost voice` and against a voice server alone.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    node,
    process::{cargo, run, say, target_dir},
};

/// Where distributions put the browser.
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What a voice server decides without a gateway; a part of all, because the rest is the same.
const STANDALONE_SCENARIOS: &str = "connect-join,two-peers-voice,three-transports,bad-token,expired-token,room-isolation,position-culling,direct-sfu";

/// Everything that `cargo xtask test` runs.
pub(crate) fn test() -> Result<()> {
    interop(&["--scenario".to_owned(), "everything".to_owned()])?;
    interop(&["--standalone", "--scenario", STANDALONE_SCENARIOS].map(str::to_owned))
}

/// Runs the harness with these arguments; where the server is need not be among them.
pub(crate) fn interop(arguments: &[String]) -> Result<()> {
    let browser = browser()?;
    run(cargo(&["build", "--locked", "-p", "bifrost"]).args([
        "-p",
        "integration-tests",
        "--bin",
        "bifrost",
        "--bin",
        "native-voice",
    ]))?;
    let folder = node::environment("tests/browser")?;
    let voice = Voice::start()?;
    let mut harness = Command::new("node");
    harness
        .arg(folder.join("run.mjs"))
        .arg("--chromium")
        .arg(browser);
    harness.args([
        "--access-key",
        voice.text("access_key")?,
        "--sfu",
        voice.text("sfu")?,
        "--quic",
        voice.text("quic")?,
        "--certificate-sha256",
        voice.text("certificate_sha256")?,
    ]);
    harness
        .arg("--native")
        .arg(target_dir().join("debug").join("native-voice"));
    if !arguments.iter().any(|it| it == "--standalone") {
        harness.args(["--gateway", voice.text("gateway")?]);
    }
    run(harness.args(arguments))
}

/// Where Chromium is.
pub(crate) fn browser() -> Result<PathBuf> {
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let mut places = CHROMIUM
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places
        .find(|place| place.is_file())
        .context("Chromium is missing: install it (Debian: apt-get install chromium)")
}

/// A running `bifrost voice`.
struct Voice {
    child: Child,
    addresses: Value,
}

impl Voice {
    fn start() -> Result<Self> {
        let program = target_dir().join("debug").join("bifrost");
        let mut command = Command::new(&program);
        command.args(["voice", "--json"]);
        for port in [
            "--gateway-port",
            "--sfu-port",
            "--webrtc-port",
            "--metrics-port",
        ] {
            command.args([port, "0"]);
        }
        say(&format!("$ {} voice", program.display()));
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("bifrost did not start")?;
        let mut line = String::new();
        let output = child.stdout.take().context("its output is a pipe")?;
        BufReader::new(output).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(addresses) => Ok(Self { child, addresses }),
            Err(_) => {
                let status = child.wait()?;
                bail!("bifrost voice ended: {status}");
            }
        }
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.addresses[name]
            .as_str()
            .with_context(|| format!("bifrost voice names no {name}"))
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}
