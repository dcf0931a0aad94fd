//! Programs of ours held against the clients and the cases of others.

use std::process::Command;

use anyhow::Result;

use crate::{
    node,
    process::{cargo, run, target_dir},
};

/// Profiles that are part of `cargo xtask test`: what most operators run, and all timeouts.
pub(crate) const GATEWAY_TEST_PROFILES: &str = "default,basic,fast";

/// Runs the gateway's conformance cases, in all profiles or in these.
pub(crate) fn gateway(profiles: Option<&str>) -> Result<()> {
    run(&mut cargo(&["build", "--locked", "-p", "gateway"]))?;
    let folder = node::environment("tests/interop/gateway")?;
    let mut suite = Command::new("node");
    suite.arg(folder.join("suite.mjs"));
    suite
        .arg("--gateway")
        .arg(target_dir().join("debug").join("gateway"));
    if let Some(profiles) = profiles {
        suite.args(["--profiles", profiles]);
    }
    run(&mut suite)
}
