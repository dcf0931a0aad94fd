//! The real web client in a real browser, against `bifrost voice` and against a voice server alone.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    node,
    process::{cargo, run, target_dir},
    voice::Voice,
};

/// Where distributions put the browser.
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What a voice server decides without a gateway; a part of all, because the rest is the same.
const STANDALONE_SCENARIOS: &str = "connect-join,two-peers-voice,three-transports,bad-token,expired-token,room-isolation,position-culling,server-positions,direct-sfu";

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
