//! Node packages, each folder with its pinned dependencies in a copy of its own below the target folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process::{root, run, target_dir};

/// A copy of `folder` (below the root) in which its dependencies are installed. They are installed once, and again
/// when the lock file changes; the scripts are copied every time.
pub(crate) fn environment(folder: &str) -> Result<PathBuf> {
    let source = root().join(folder);
    let copy = target_dir().join("node").join(folder);
    fs::create_dir_all(&copy)?;
    for entry in fs::read_dir(&source).with_context(|| format!("{folder} cannot be read"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
    }
    let wanted = fs::read_to_string(source.join("package-lock.json"))?;
    let stamp = copy.join("node_modules").join("installed-lock.json");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(copy);
    }
    install(&copy)?;
    fs::write(stamp, wanted)?;
    Ok(copy)
}

fn install(folder: &Path) -> Result<()> {
    for program in ["node", "npm"] {
        if Command::new(program).arg("--version").output().is_err() {
            bail!(
                "{program} is missing: install Node.js 20 or newer (Debian: apt-get install nodejs npm)"
            );
        }
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"])
        .current_dir(folder);
    run(&mut npm).context("the Node packages could not be installed")
}
