//! Python tools, each set of pinned requirements in a virtual environment of its own below the target folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process::{root, run, target_dir};

/// The `bin` folder of an environment that holds `requirements` (a file below the root). It is made once and
/// again when the file changes.
pub(crate) fn environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let wanted = fs::read_to_string(root().join(requirements))
        .with_context(|| format!("{requirements} cannot be read"))?;
    let folder = target_dir().join("venv").join(name);
    let stamp = folder.join("requirements.installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder.join("bin"));
    }
    if Command::new("python3").arg("--version").output().is_err() {
        bail!(
            "python3 is missing: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
        );
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder))
    .context("python3 cannot make a virtual environment (Debian: apt-get install python3-venv)")?;
    pip(&folder, &root().join(requirements))?;
    fs::write(stamp, wanted)?;
    Ok(folder.join("bin"))
}

fn pip(folder: &Path, requirements: &Path) -> Result<()> {
    let mut pip = Command::new(folder.join("bin").join("pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]);
    run(pip.arg(requirements)).context("the Python packages could not be installed")
}
