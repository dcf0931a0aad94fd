//! What the modules are loaded into: a Nakama, or what stands in for it.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::server::{HTTP_KEY, SERVER_KEY, Server};
use crate::{
    go::Program,
    node,
    process::{root, say},
};

const SCRIPT: &str = "integrations/nakama/javascript/bifrost.js";

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
    Nakama(Program),
    StandIn(Program),
}

/// It runs, with the modules in it.
pub(super) enum RunningHost {
    Nakama(Server),
    StandIn { child: Child, address: String },
}

impl Host {
    /// What the modules must be built for.
    pub(super) fn program(&self) -> &Program {
        match self {
            Self::Nakama(program) | Self::StandIn(program) => program,
        }
    }

    pub(super) fn start(&self, modules: &Modules, settings: &Settings) -> Result<RunningHost> {
        let script = root().join(SCRIPT);
        match self {
            Self::Nakama(program) => {
                let files = [&modules.fleet, &modules.rpcs, &script];
                let server = Server::start(&program.path, &files, &settings.env())?;
                Ok(RunningHost::Nakama(server))
            }
            Self::StandIn(program) => start_stand_in(&program.path, modules, &script, settings),
        }
    }

    /// Holds that each module keeps a Nakama from starting in which a setting is missing, and says which.
    pub(super) fn refuses_to_start(&self, modules: &Modules) -> Result<()> {
        let Self::Nakama(program) = self else {
            return Ok(());
        };
        let settings = Settings {
            bridge: "http://127.0.0.1:8090".to_owned(),
            token: String::new(),
        };
        let script = root().join(SCRIPT);
        // The script must be there, and Nakama begins with the other.
        for (file, files) in [
            (&modules.fleet, [&modules.fleet, &script].as_slice()),
            (&script, &[&script]),
        ] {
            let Err(error) = Server::start(&program.path, files, &settings.env()) else {
                bail!("{} lets Nakama start without a token", file.display());
            };
            let words = format!("{error:#}");
            ensure!(
                words.contains("bifrost: BIFROST_BRIDGE_TOKEN is missing"),
                "{} does not say what is missing: {words}",
                file.display()
            );
        }
        say("PASS Nakama does not start without a token");
        Ok(())
    }
}

impl RunningHost {
    pub(super) fn address(&self) -> String {
        match self {
            Self::Nakama(server) => format!("http://{}", server.api),
            Self::StandIn { address, .. } => address.clone(),
        }
    }

    /// The command that has two real clients matched.
    pub(super) fn players(&self) -> Result<Option<Vec<String>>> {
        let Self::Nakama(Server { api, .. }) = self else {
            return Ok(None);
        };
        let script = node::environment("tests/nakama/clients")?.join("matchmake.mjs");
        let script = script.to_str().context("a path that is no text")?;
        let (host, port) = (api.ip().to_string(), api.port().to_string());
        let words = ["node", script, &host, &port, SERVER_KEY];
        Ok(Some(words.map(str::to_owned).to_vec()))
    }
}

fn start_stand_in(
    program: &Path,
    modules: &Modules,
    script: &Path,
    settings: &Settings,
) -> Result<RunningHost> {
    let mut command = Command::new(program);
    command.args(["-http-key", HTTP_KEY]);
    for module in [&modules.fleet, &modules.rpcs] {
        command.arg("-plugin").arg(module);
    }
    command.arg("-script").arg(script);
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
