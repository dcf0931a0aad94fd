//! `cargo xtask soak matches` and `cargo xtask bench allocate`: matches of the bridge, when everything fails and when
//! nothing does.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::process::{cargo, release, run, target_dir};

/// How hard it blows.
#[derive(Args)]
pub(crate) struct Storm {
    /// Matches to ask for in all
    #[arg(long, default_value_t = 20_000)]
    cycles: u64,
    /// Matchmakers at once
    #[arg(long, default_value_t = 200)]
    matchmakers: u64,
    /// Game servers
    #[arg(long, default_value_t = 50)]
    servers: u16,
    /// Bridges on one Redis
    #[arg(long, default_value_t = 3)]
    bridges: u16,
    /// Decides what is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds that a stalled call of the Fleet takes; beyond 3000, callers are gone when it is performed
    #[arg(long, default_value_t = 2_000)]
    stall_ms: u32,
}

/// Everything the storm needs runs inside its program or is started by it.
pub(crate) fn soak(storm: &Storm) -> Result<()> {
    let packages = ["-p", "fleet-bridge", "-p", "integration-tests"];
    run(cargo(&["build", "--release", "--locked"]).args(packages))?;
    let mut command = Command::new(release("match-storm"));
    command.arg("--bridge-program").arg(release("fleet-bridge"));
    for (flag, value) in [
        ("--cycles", storm.cycles),
        ("--matchmakers", storm.matchmakers),
        ("--servers", storm.servers.into()),
        ("--bridges", storm.bridges.into()),
        ("--seed", storm.seed),
        ("--stall-ms", storm.stall_ms.into()),
    ] {
        command.args([flag, &value.to_string()]);
    }
    run(&mut command)
}

/// A small storm of the debug programs, for every change: the long one finds what is rare.
pub(crate) fn short_storm() -> Result<()> {
    let packages = ["-p", "fleet-bridge", "-p", "integration-tests"];
    run(cargo(&["build", "--locked", "--bins"]).args(packages))?;
    let programs = target_dir().join("debug");
    let mut command = Command::new(programs.join("match-storm"));
    command
        .arg("--bridge-program")
        .arg(programs.join("fleet-bridge"));
    command.args(["--cycles", "300", "--matchmakers", "60", "--servers", "20"]);
    command.args(["--kill-seconds", "4", "--restart-seconds", "7"]);
    run(&mut command)
}

/// Both sides run in one process, in the same rounds.
pub(crate) fn bench_allocate() -> Result<()> {
    run(&mut cargo(&[
        "build",
        "--release",
        "--locked",
        "-p",
        "integration-tests",
    ]))?;
    run(&mut Command::new(release("allocate-load")))
}
