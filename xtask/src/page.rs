//! The bridge's page in a real browser: against `bifrost demo`, and against a bridge that asks for tokens.

use std::{fs, process::Command};

use anyhow::Result;

use crate::{
    check::MOCK_TOKEN,
    node, odin_web,
    process::{Running, cargo, free_address, run, say, target_dir},
};

/// What the second bridge is told. Its Fleet has no game servers: what is looked at is who may see what.
const GUARDED: &str = "[matches]\nenabled = true\n[page]\npublic = true\ncontrols = true\n\
    [[auth.tokens]]\nname = \"reader\"\nscope = \"read\"\ntoken_env = \"PAGE_READ_TOKEN\"\n";

const READ_TOKEN: &str = "page-test-read-token";

/// Drives the page; screenshots go to `page` below the target folder.
pub(crate) fn interop() -> Result<()> {
    let browser = odin_web::browser()?;
    let programs = ["bifrost", "fleet-bridge", "mock-fleet"];
    run(&mut cargo(&[
        "build",
        "--locked",
        "-p",
        programs[0],
        "-p",
        programs[1],
        "-p",
        programs[2],
    ]))?;
    let [bifrost, fleet_bridge, mock_fleet] =
        programs.map(|name| target_dir().join("debug").join(name));
    let folder = node::environment("tests/page")?;
    let screenshots = target_dir().join("page");
    fs::create_dir_all(&screenshots)?;

    let bridge = free_address()?;
    let mut demo = Command::new(bifrost);
    demo.args(["demo", "--bridge-port", &bridge.port().to_string()]);
    for port in [
        "--fleet-port",
        "--control-port",
        "--gateway-port",
        "--sfu-port",
        "--webrtc-port",
        "--metrics-port",
    ] {
        demo.args([port, "0"]);
    }
    let _demo = Running::start(&mut demo, bridge)?;

    let (fleet, control, guarded) = (free_address()?, free_address()?, free_address()?);
    let mut simulator = Command::new(mock_fleet);
    simulator.args(["--listen", &fleet.to_string()]);
    simulator.args(["--control", &control.to_string()]);
    let _simulator = Running::start(&mut simulator, fleet)?;
    let settings = screenshots.join("guarded.toml");
    fs::write(&settings, GUARDED)?;
    let mut second = Command::new(fleet_bridge);
    second
        .arg("--config")
        .arg(settings)
        .args(["--listen", &guarded.to_string()]);
    second.env("ODIN_APP_ID", "1");
    second.env("ODIN_API_TOKEN", MOCK_TOKEN);
    second.env("ODIN_API_URL", format!("http://{fleet}/api"));
    second.env("PAGE_READ_TOKEN", READ_TOKEN);
    let _second = Running::start(&mut second, guarded)?;

    let mut harness = Command::new("node");
    harness
        .arg(folder.join("run.mjs"))
        .arg("--chromium")
        .arg(browser);
    harness.args(["--bridge", &format!("http://{bridge}")]);
    harness.args(["--guarded", &format!("http://{guarded}")]);
    harness.arg("--screenshots").arg(&screenshots);
    harness.env("PAGE_READ_TOKEN", READ_TOKEN);
    run(&mut harness)?;
    say(&format!("screenshots: {}", screenshots.display()));
    Ok(())
}
