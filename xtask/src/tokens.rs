//! `bifrost` held against the npm package that ODIN's customers sign tokens with.

use std::process::Command;

use anyhow::Result;

use crate::{
    node,
    process::{cargo, run, target_dir},
};

/// Keys and tokens of either side are taken by the other, and those that must not be taken are not.
pub(crate) fn interop_tokens() -> Result<()> {
    run(&mut cargo(&["build", "--locked", "-p", "bifrost"]))?;
    let folder = node::environment("tests/interop/tokens")?;
    let program = target_dir().join("debug").join("bifrost");
    let mut script = Command::new("node");
    script.arg(folder.join("run.mjs"));
    run(script.arg("--bifrost").arg(program))
}
