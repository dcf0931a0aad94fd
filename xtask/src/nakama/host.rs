//! What the modules are loaded into: a Nakama, or what stands in for it.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::postgres::Postgres;
use crate::{
    node,
    process::{Running, root, run, say, target_dir},
};

/// What calls of RPCs must show.
pub(super) const HTTP_KEY: &str = "nakama-test-http-key";

/// What clients must show.
const SERVER_KEY: &str = "nakama-test-server-key";

const SCRIPT: &str = "integrations/nakama/javascript/bifrost.js";

/// How often two free ports side by side are looked for.
const PORT_ATTEMPTS: usize = 50;

/// The Go modules.
pub(super) struct Modules {
    /// Registers the fleet manager.
    pub(super) fleet: PathBuf,
    /// Offers it as RPCs.
    pub(super) rpcs: PathBuf,
}

/// What the modules are told.
pub(super) struct Settings {
    pub(super) bridge: String,
    pub(super) token: String,
}

impl Settings {
    fn env(&self) -> [String; 3] {
        [
            format!("BIFROST_BRIDGE_URL={}", self.bridge),
            format!("BIFROST_BRIDGE_TOKEN={}", self.token),
            "BIFROST_VOICE=match,teams".to_owned(),
        ]
    }
}

/// Something that can load modules.
pub(super) enum Host {
    Nakama(PathBuf),
    StandIn(PathBuf),
}

/// It runs, with the modules in it.
pub(super) enum RunningHost {
    Nakama {
        _nakama: Running,
        _postgres: Postgres,
        api: SocketAddr,
    },
    StandIn {
        child: Child,
        address: String,
    },
}

impl Host {
    pub(super) fn stand_in(program: PathBuf) -> Self {
        Self::StandIn(program)
    }

    /// This Nakama, or the one in the PATH.
    pub(super) fn nakama(program: Option<&Path>) -> Result<Self> {
        let program = program.map_or_else(|| PathBuf::from("nakama"), Path::to_path_buf);
        match Command::new(&program).arg("--version").output() {
            Ok(output) if output.status.success() => {
                let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                say(&format!("Nakama {version}"));
                Ok(Self::Nakama(program))
            }
            Ok(output) => bail!("{} --version: {}", program.display(), output.status),
            Err(error) => bail!(
                "{}: {error}. Nakama is missing: build it with the Go and the nakama-common that \
                 integrations/nakama/go.mod names (CGO_ENABLED=1 go build -trimpath github.com/heroiclabs/nakama/v3), \
                 and name it by --program or put it into the PATH. --stand-in runs the modules without a Nakama",
                program.display()
            ),
        }
    }

    pub(super) fn start(&self, modules: &Modules, settings: &Settings) -> Result<RunningHost> {
        match self {
            Self::Nakama(program) => start_nakama(program, modules, settings),
            Self::StandIn(program) => start_stand_in(program, modules, settings),
        }
    }
}

impl RunningHost {
    pub(super) fn address(&self) -> String {
        match self {
            Self::Nakama { api, .. } => format!("http://{api}"),
            Self::StandIn { address, .. } => address.clone(),
        }
    }

    /// The command that has two real clients matched.
    pub(super) fn players(&self) -> Result<Option<Vec<String>>> {
        let Self::Nakama { api, .. } = self else {
            return Ok(None);
        };
        let script = node::environment("tests/nakama/clients")?.join("matchmake.mjs");
        let script = script.to_str().context("a path that is no text")?;
        let (host, port) = (api.ip().to_string(), api.port().to_string());
        let words = ["node", script, &host, &port, SERVER_KEY];
        Ok(Some(words.map(str::to_owned).to_vec()))
    }
}

fn start_stand_in(program: &Path, modules: &Modules, settings: &Settings) -> Result<RunningHost> {
    let mut command = Command::new(program);
    command.args(["-http-key", HTTP_KEY]);
    for module in [&modules.fleet, &modules.rpcs] {
        command.arg("-plugin").arg(module);
    }
    command.arg("-script").arg(root().join(SCRIPT));
    for pair in settings.env() {
        command.args(["-env", &pair]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("its output is a pipe")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let Ok(told) = serde_json::from_str::<Value>(&line) else {
        bail!("the stand-in ended: {}", child.wait()?);
    };
    let address = told["address"].as_str().context("no address")?.to_owned();
    Ok(RunningHost::StandIn { child, address })
}

impl Drop for RunningHost {
    fn drop(&mut self) {
        if let Self::StandIn { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start_nakama(program: &Path, modules: &Modules, settings: &Settings) -> Result<RunningHost> {
    let postgres = Postgres::start()?;
    let folder = target_dir().join("nakama-data");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let path = folder.join("modules");
    fs::create_dir_all(&path)?;
    fs::copy(&modules.fleet, path.join("bifrost.so"))?;
    fs::copy(&modules.rpcs, path.join("fleet-rpcs.so"))?;
    fs::copy(root().join(SCRIPT), path.join("bifrost.js"))?;
    let (api, console) = (address_pair()?, address_pair()?);
    ensure!(api != console, "the same port twice");
    let file = folder.join("nakama.yml");
    fs::write(
        &file,
        configuration(&folder, &postgres, api, console, settings),
    )?;
    let address = postgres.database();
    run(Command::new(program).args(["migrate", "up", "--database.address", &address]))?;
    let mut command = Command::new(program);
    let nakama = Running::start(command.arg("--config").arg(file), api)?;
    Ok(RunningHost::Nakama {
        _nakama: nakama,
        _postgres: postgres,
        api,
    })
}

fn configuration(
    folder: &Path,
    postgres: &Postgres,
    api: SocketAddr,
    console: SocketAddr,
    settings: &Settings,
) -> String {
    let folder = env::current_dir().unwrap_or_default().join(folder);
    let (data, modules) = (folder.display(), folder.join("modules"));
    let (modules, database) = (modules.display(), postgres.database());
    let env: String = settings
        .env()
        .iter()
        .map(|pair| format!("    - {pair:?}\n"))
        .collect();
    let (ip, api, console) = (api.ip(), api.port(), console.port());
    format!(
        "name: bifrost-test\ndata_dir: \"{data}\"\nlogger:\n  level: warn\ndatabase:\n  address: [\"{database}\"]\n\
         runtime:\n  path: \"{modules}\"\n  js_entrypoint: bifrost.js\n  http_key: {HTTP_KEY}\n  env:\n{env}\
         socket:\n  address: {ip}\n  port: {api}\n  server_key: {SERVER_KEY}\n\
         console:\n  address: {ip}\n  port: {console}\nmatchmaker:\n  interval_sec: 1\n"
    )
}

/// A loopback address that was free a moment ago, and so was the port below it: Nakama takes that for gRPC.
fn address_pair() -> Result<SocketAddr> {
    for _ in 0..PORT_ATTEMPTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, address.port() - 1)).is_ok() {
            return Ok(address);
        }
    }
    bail!("no two free ports side by side");
}
