//! Go programs and the plugins that they load, built below the target folder.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::process::{root, run, target_dir};

/// A plugin fits only where no paths of the machine are in either; that a clone has commits is of no use to a test.
const BUILD: [&str; 3] = ["build", "-trimpath", "-buildvcs=false"];

/// A Go program that loads plugins, and what it is built from: it takes only plugins that are built with the same Go and
/// the same versions of every package that both have.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// Modules and their versions.
    modules: Vec<(String, String)>,
    /// Hashes of these modules, as far as they are known.
    sums: String,
}

impl Program {
    /// Builds a package, with the versions of the Go module at `folder` (below the root).
    pub(crate) fn build(folder: &str, package: &str, name: &str) -> Result<Self> {
        let path = output_folder()?.join(name);
        let mut command = go("go")?;
        command.args(BUILD).arg("-o").arg(&path);
        run(command.arg(package).current_dir(root().join(folder)))?;
        let sums = fs::read_to_string(root().join(folder).join("go.sum"))?;
        Self::read(path, sums)
    }

    /// A program that is there already.
    pub(crate) fn existing(path: &Path) -> Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| path.display().to_string())?;
        Self::read(path, String::new())
    }

    fn read(path: PathBuf, sums: String) -> Result<Self> {
        let mut command = go("go")?;
        let built = text(command.args(["version", "-m", "-json"]).arg(&path))?;
        let built: Value = serde_json::from_str(&built)?;
        let here = text(go("go")?.args(["env", "GOVERSION"]))?;
        ensure!(
            built["GoVersion"] == here.trim(),
            "{} is built with {}, and here is {}: a plugin needs the same Go",
            path.display(),
            built["GoVersion"],
            here.trim()
        );
        let dependencies = built["Deps"].as_array().into_iter().flatten();
        let module = |it: &Value| {
            let text = |name: &str| it[name].as_str().map(str::to_owned);
            Some((text("Path")?, text("Version")?))
        };
        let modules = std::iter::once(&built["Main"])
            .chain(dependencies)
            .filter_map(module)
            .collect();
        Ok(Self {
            path,
            modules,
            sums,
        })
    }

    /// Which version of a module it has.
    pub(crate) fn version(&self, module: &str) -> Option<&str> {
        let mut modules = self.modules.iter();
        let found = modules.find(|(path, _)| path == module);
        found.map(|(_, version)| version.as_str())
    }

    /// Builds the package at `folder` (below the root) as a plugin for this program.
    pub(crate) fn plugin(&self, folder: &str, package: &str, name: &str) -> Result<PathBuf> {
        let output = output_folder()?.join(format!("{name}.so"));
        let versions = self.versions(folder)?;
        let mut command = go("go")?;
        command.args(BUILD).args(["-buildmode=plugin", "-mod=mod"]);
        command.arg("-modfile").arg(versions);
        command.arg("-o").arg(&output).arg(package);
        run(command.current_dir(root().join(folder)))?;
        Ok(output)
    }

    /// The tests and the checks of the Go module at `folder` (below the root), with the versions of this program.
    pub(crate) fn check(&self, folder: &str) -> Result<()> {
        let versions = self.versions(folder)?;
        let folder = root().join(folder);
        let unformatted = text(go("gofmt")?.arg("-l").arg(&folder))?;
        ensure!(unformatted.is_empty(), "gofmt would change {unformatted}");
        for task in ["vet", "test"] {
            let mut command = go("go")?;
            command.args([task, "-mod=mod", "-modfile"]).arg(&versions);
            run(command.arg("./...").current_dir(&folder))?;
        }
        Ok(())
    }

    /// A go.mod in place of the one in `folder`: all that this program is built from, at its versions.
    fn versions(&self, folder: &str) -> Result<PathBuf> {
        let name = folder.replace('/', "-");
        let folder = root().join(folder);
        let own = fs::read_to_string(folder.join("go.mod"))?;
        let line = |word: &str| {
            let mut lines = own.lines();
            lines.find(|line| line.starts_with(word)).context("go.mod")
        };
        let mut text = format!("{}\n\n{}\n\n", line("module ")?, line("go ")?);
        for (module, version) in &self.modules {
            // What is built from a folder has no version that another could ask for.
            if version.starts_with('v') {
                writeln!(text, "require {module} {version}")?;
            }
        }
        let host = self.path.file_name().context("a file")?.to_string_lossy();
        let file = output_folder()?.join(format!("{name}-for-{host}.mod"));
        let sums = fs::read_to_string(folder.join("go.sum"))? + &self.sums;
        fs::write(file.with_extension("sum"), sums)?;
        fs::write(&file, text)?;
        Ok(file)
    }
}

fn output_folder() -> Result<PathBuf> {
    let folder = target_dir().join("go");
    fs::create_dir_all(&folder)?;
    Ok(folder.canonicalize()?)
}

fn text(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {words}");
    Ok(String::from_utf8(output.stdout)?)
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
