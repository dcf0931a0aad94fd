//! Go programs and plugins, built below the target folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::process::{root, run, target_dir};

/// Builds the package at `folder` (below the root) and returns the program.
pub(crate) fn program(folder: &str, package: &str, name: &str) -> Result<PathBuf> {
    build(folder, package, name, &[])
}

/// Builds the package at `folder` (below the root) as a plugin. Whoever loads it must be built with the same Go and the
/// same versions of everything that both import, and with `-trimpath`.
pub(crate) fn plugin(folder: &str, package: &str, name: &str) -> Result<PathBuf> {
    build(
        folder,
        package,
        &format!("{name}.so"),
        &["-buildmode=plugin"],
    )
}

/// The tests and the checks of the Go module at `folder` (below the root).
pub(crate) fn check(folder: &str) -> Result<()> {
    let folder = root().join(folder);
    let unformatted = go("gofmt")?.arg("-l").arg(&folder).output()?;
    if !unformatted.status.success() || !unformatted.stdout.is_empty() {
        let files = String::from_utf8_lossy(&unformatted.stdout);
        bail!("gofmt would change {files}");
    }
    for arguments in [["vet", "./..."], ["test", "./..."]] {
        run(go("go")?.args(arguments).current_dir(&folder))?;
    }
    Ok(())
}

fn build(folder: &str, package: &str, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let output = target_dir().join("go");
    fs::create_dir_all(&output)?;
    let output = output.canonicalize()?.join(name);
    let mut command = go("go")?;
    command.args(["build", "-trimpath"]).args(flags).arg("-o");
    command.arg(&output).arg(package);
    run(command.current_dir(Path::new(root()).join(folder)))?;
    Ok(output)
}

fn go(program: &str) -> Result<Command> {
    if Command::new("go").arg("version").output().is_err() {
        bail!("go is missing: install Go 1.26.5 or newer");
    }
    let mut command = Command::new(program);
    // Plugins need it; a C compiler must be there, too.
    command.env("CGO_ENABLED", "1");
    Ok(command)
}
