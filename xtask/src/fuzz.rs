//! Fuzz targets with cargo-fuzz, each for a time. What they learn stays below the target folder.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::process::{root, run, target_dir};

/// Runs every target of `crate_folder`/fuzz, each for `seconds`.
pub(crate) fn crate_targets(crate_folder: &str, seconds: u64) -> Result<()> {
    let folder = root().join(crate_folder).join("fuzz");
    let missing = "Rust nightly is missing: rustup toolchain install nightly --profile minimal";
    ensure!(succeeds(&["rustc", "--version"]), missing);
    let missing = "cargo-fuzz is missing: cargo install --locked cargo-fuzz";
    ensure!(succeeds(&["cargo", "fuzz", "--version"]), missing);

    let mut list = nightly(&["cargo", "fuzz", "list", "--fuzz-dir"]);
    let output = list.arg(&folder).output()?;
    ensure!(output.status.success(), "cargo fuzz list failed");
    let targets = String::from_utf8(output.stdout)?;
    ensure!(!targets.trim().is_empty(), "{crate_folder} has no targets");

    for target in targets.lines() {
        let learned = target_dir().join("fuzz").join("corpus").join(target);
        fs::create_dir_all(&learned)?;
        let mut fuzz = nightly(&["cargo", "fuzz", "run", "--fuzz-dir"]);
        fuzz.arg(&folder);
        fuzz.arg("--target-dir").arg(target_dir().join("fuzz"));
        fuzz.args([target.into(), learned, folder.join("seeds").join(target)]);
        fuzz.args(["--", "-print_final_stats=1"]);
        fuzz.arg(format!("-max_total_time={seconds}"));
        run(&mut fuzz).with_context(|| format!("{crate_folder}: {target}"))?;
    }
    Ok(())
}

fn nightly(command: &[&str]) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(root());
    rustup.args(["run", "nightly"]).args(command);
    rustup
}

fn succeeds(command: &[&str]) -> bool {
    let mut command = nightly(command);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
