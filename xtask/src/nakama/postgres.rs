//! A PostgreSQL of our own for as long as a task needs it: in a folder that goes with it, on loopback.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::process::{Running, free_address, run, say};

/// Where Debian puts its programs, by version; elsewhere they are in the PATH.
const DEBIAN: &str = "/usr/lib/postgresql";

/// PostgreSQL does not run as root; the package makes this user.
const USER: &str = "postgres";

/// It runs; it ends and its folder goes when this is dropped.
pub(super) struct Postgres {
    // Dropped before the folder.
    server: Option<Running>,
    folder: PathBuf,
    address: SocketAddr,
}

impl Postgres {
    pub(super) fn start() -> Result<Self> {
        let is_root = is_root()?;
        let programs = programs(is_root)?;
        let output = Command::new("mktemp")
            .args(["-d", "-t", "bifrost-postgres.XXXXXX"])
            .output()?;
        ensure!(output.status.success(), "no temporary folder");
        let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let mut postgres = Self {
            server: None,
            folder,
            address: free_address()?,
        };
        if is_root {
            let owner = Command::new("chown")
                .arg(USER)
                .arg(&postgres.folder)
                .status()?;
            ensure!(owner.success(), "there is no user {USER}");
        }
        let data = postgres.folder.join("data");
        let mut init = as_user(is_root, &programs.join("initdb"));
        init.arg("-D").arg(&data);
        init.args(["-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"]);
        let output = init.current_dir("/").output().context("initdb")?;
        ensure!(
            output.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut server = as_user(is_root, &programs.join("postgres"));
        server.arg("-D").arg(&data).arg("-k").arg(&postgres.folder);
        server.args(["-h", &postgres.address.ip().to_string()]);
        server.args(["-p", &postgres.address.port().to_string(), "-F"]);
        server.current_dir("/");
        say("$ postgres");
        postgres.server = Some(Running::start(&mut server, postgres.address)?);
        Ok(postgres)
    }

    /// How Nakama wants it: user, address and database.
    pub(super) fn database(&self) -> String {
        format!("{USER}@{}/nakama?sslmode=disable", self.address)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.server = None;
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder of its programs; where there are none, the package is installed.
fn programs(is_root: bool) -> Result<PathBuf> {
    if let Some(folder) = installed() {
        return Ok(folder);
    }
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run(command.args(arguments))
    };
    if is_root && Command::new("apt-get").arg("--version").output().is_ok() {
        apt_get(&["update"])?;
        apt_get(&["install", "-y", "--no-install-recommends", "postgresql"])?;
    }
    installed()
        .context("PostgreSQL is missing: install it (Debian: sudo apt-get install postgresql)")
}

/// Debian's newest version, else what is in the PATH.
fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let number = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin").join("initdb").is_file())
        .max_by_key(|path| number(path));
    if let Some(path) = newest {
        return Some(path.join("bin"));
    }
    let in_path = Command::new("initdb").arg("--version").output();
    in_path.is_ok().then(PathBuf::new)
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output()?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// `setpriv` becomes the program, so that the process we end is the server.
fn as_user(is_root: bool, program: &Path) -> Command {
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--init-groups"]);
    command.arg(program);
    command
}
