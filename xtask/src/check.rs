//! Tasks that say yes or no.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    interop, matches, nakama, odin_web, page,
    process::{Running, cargo, free_address, root, run, say, target_dir},
    python, tokens,
};

/// The token of mock-fleet's built-in world.
pub(crate) const MOCK_TOKEN: &str = "local-development-token";

/// Everything that the README promises.
pub(crate) fn test() -> Result<()> {
    run(&mut cargo(&["test", "--workspace", "--locked"]))?;
    simulator_against_its_document()?;
    matches::short_storm()?;
    tokens::interop_tokens()?;
    interop::gateway(Some(interop::GATEWAY_TEST_PROFILES))?;
    odin_web::test()?;
    page::interop()?;
    nakama::test_everywhere()
}

pub(crate) fn ci() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    run(&mut cargo(&lints))?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    core_without_a_system()?;
    test()
}

/// A target without files, sockets and threads.
const WASM: &str = "wasm32-unknown-unknown";

/// The room builds where there is no operating system: what would need one fails here.
fn core_without_a_system() -> Result<()> {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(root());
    rustc.args(["--print", "target-libdir", "--target", WASM]);
    let output = rustc.output().context("rustc did not start")?;
    let library = String::from_utf8(output.stdout)?;
    if !output.status.success() || !Path::new(library.trim()).is_dir() {
        say(&format!(
            "NOT CHECKED: sfu-core for {WASM}; rustup target add {WASM}"
        ));
        return Ok(());
    }
    let core = ["check", "-p", "sfu-core", "--locked", "--target", WASM];
    run(&mut cargo(&core))
}

/// The simulator is driven over HTTP, and every answer is held against openapi/odin-fleet.json, for each shape
/// that it can serve.
fn simulator_against_its_document() -> Result<()> {
    let python = python::environment("checks", "tests/fleet/requirements.txt")?.join("python");
    run(&mut cargo(&["build", "--locked", "-p", "mock-fleet"]))?;
    let program = target_dir().join("debug").join("mock-fleet");
    for api in ["0.9.0", "0.9.2"] {
        let listen = free_address()?;
        let control = free_address()?;
        let mut simulator = Command::new(&program);
        simulator.args(["--api", api, "--listen", &listen.to_string()]);
        simulator.args(["--control", &control.to_string()]);
        let _simulator = Running::start(&mut simulator, listen)?;
        let mut check = Command::new(&python);
        check.current_dir(root().join("tests").join("fleet"));
        check.args([
            "check_mock_fleet.py",
            &format!("http://{listen}/api"),
            MOCK_TOKEN,
        ]);
        check.args(["../../openapi/odin-fleet.json", "--quiet", "--api", api]);
        run(&mut check).with_context(|| {
            format!("mock-fleet --api {api} does not answer like the Fleet API")
        })?;
    }
    Ok(())
}

/// Writes the bridge's contract where its test looks for it.
pub(crate) fn export_openapi() -> Result<()> {
    let arguments = [
        "run",
        "--quiet",
        "-p",
        "fleet-bridge",
        "--",
        "--export-openapi",
    ];
    let output = cargo(&arguments).output()?;
    if !output.status.success() {
        bail!("fleet-bridge: {}", String::from_utf8_lossy(&output.stderr));
    }
    let path = root().join("openapi").join("fleet-bridge.json");
    fs::write(&path, output.stdout)?;
    say(&format!("wrote {}", path.display()));
    Ok(())
}

/// Licences, sources and double versions. Advisories need their database and are not part of it.
pub(crate) fn deny() -> Result<()> {
    if !cargo(&["deny", "--version"]).output()?.status.success() {
        bail!("cargo-deny is missing: cargo install --locked cargo-deny");
    }
    run(&mut cargo(&[
        "deny", "check", "bans", "licenses", "sources",
    ]))
}
