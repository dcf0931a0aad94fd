//! Tasks that take their time: benchmarks, soaks and fuzzing. Never part of CI.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    check::MOCK_TOKEN,
    process::{Running, cargo, free_address, release, root, run, say, target_dir},
    python,
};

/// The app of mock-fleet's built-in world.
const APP_ID: &str = "1";

/// mock-fleet and the bridge as processes of their own, as an operator would run them.
struct Pair {
    fleet: SocketAddr,
    control: SocketAddr,
    bridge_address: SocketAddr,
    bridge: Running,
    _simulator: Running,
}

impl Pair {
    fn start(world: Option<&str>) -> Result<Self> {
        let packages = ["mock-fleet", "fleet-bridge", "integration-tests"];
        let mut build = cargo(&["build", "--release", "--locked"]);
        run(build.args(packages.iter().flat_map(|name| ["-p", name])))?;
        let (fleet, control, bridge_address) = (free_address()?, free_address()?, free_address()?);
        let mut simulator = Command::new(release("mock-fleet"));
        simulator.args([
            "--listen",
            &fleet.to_string(),
            "--control",
            &control.to_string(),
        ]);
        if let Some(world) = world {
            simulator.arg("--world").arg(root().join(world));
        }
        let simulator = Running::start(&mut simulator, fleet)?;
        let mut bridge = Command::new(release("fleet-bridge"));
        bridge
            .args(["--listen", &bridge_address.to_string()])
            .env("ODIN_APP_ID", APP_ID)
            .env("ODIN_API_TOKEN", MOCK_TOKEN)
            .env("ODIN_API_URL", format!("http://{fleet}/api"))
            .env("RUST_LOG", "warn");
        let bridge = Running::start(&mut bridge, bridge_address)?;
        Ok(Self {
            fleet,
            control,
            bridge_address,
            bridge,
            _simulator: simulator,
        })
    }

    fn driver(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(release("load"));
        command.args(arguments);
        command.args(["--fleet", &format!("http://{}/api", self.fleet)]);
        command.args(["--control", &format!("http://{}", self.control)]);
        command.args(["--bridge", &format!("http://{}", self.bridge_address)]);
        command.args(["--token", MOCK_TOKEN, "--app", APP_ID]);
        command
    }

    fn say_memory(&self) -> Result<()> {
        let mib = self.bridge.peak_memory_kib()? / 1024;
        say(&format!("peak memory of the bridge process: {mib} MiB"));
        Ok(())
    }
}

pub(crate) fn bench_bridge() -> Result<()> {
    let pair = Pair::start(Some("tests/worlds/bench.toml"))?;
    run(&mut pair.driver(&["bench"]))?;
    pair.say_memory()
}

pub(crate) fn soak(seconds: u64) -> Result<()> {
    let pair = Pair::start(None)?;
    let seconds = seconds.to_string();
    let pid = pair.bridge.pid().to_string();
    run(&mut pair.driver(&["soak", "--seconds", &seconds, "--bridge-pid", &pid]))?;
    pair.say_memory()
}

/// The document declares the 5xx that a caller must expect, and not 500: a status that is not declared is a failure.
pub(crate) fn fuzz_bridge() -> Result<()> {
    let pair = Pair::start(None)?;
    let base = format!("http://{}", pair.bridge_address);
    let mut st = schemathesis(CONFORMANCE)?;
    run(st.args([&format!("{base}/openapi.json"), "--url", &base]))
}

/// The simulator never has a reason for a 5xx.
pub(crate) fn fuzz_mock_fleet() -> Result<()> {
    let pair = Pair::start(None)?;
    let base = format!("http://{}/api", pair.fleet);
    let token = format!("Authorization: Bearer {MOCK_TOKEN}");
    let mut st = schemathesis(&format!("not_a_server_error,{CONFORMANCE}"))?;
    st.arg(root().join("openapi").join("odin-fleet.json"));
    run(st.args(["--url", &base, "-H", &token]))
}

/// Nothing comes out that the document does not declare.
const CONFORMANCE: &str =
    "status_code_conformance,content_type_conformance,response_schema_conformance";

fn schemathesis(checks: &str) -> Result<Command> {
    let bin: PathBuf = python::environment("fuzz", "tests/fleet/requirements-fuzz.txt")?;
    let mut st = Command::new(bin.join("st"));
    st.current_dir(target_dir());
    st.args([
        "run",
        "--checks",
        checks,
        "--phases",
        "examples,coverage,fuzzing",
    ]);
    st.args([
        "-n",
        "20",
        "--generation-deterministic",
        "--continue-on-failure",
    ]);
    st.args(["--no-color", "--warnings", "off"]);
    Ok(st)
}
