//! `cargo xtask nakama`: the modules of `integrations/nakama` in a Nakama, with a bridge, game servers and voice around it.

mod host;
mod postgres;
mod server;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::host::{Host, Modules, Settings};
use crate::{
    go::Program,
    process::{cargo, run, say, target_dir},
    voice::Voice,
};

#[derive(Args)]
pub(crate) struct Options {
    /// The Nakama to run, built with the Go that is here; without it, one is built
    #[arg(long, value_name = "FILE", conflicts_with = "stand_in")]
    program: Option<PathBuf>,
    /// Load the modules into tests/nakama/standin instead: no Nakama, no database, no clients
    #[arg(long)]
    stand_in: bool,
}

const MODULE: &str = "integrations/nakama";
const TESTS: &str = "tests/nakama";

/// The Go module that names the Nakama to build, and pins all that it is built from.
const SERVER: &str = "tests/nakama/server";

const NAKAMA: &str = "github.com/heroiclabs/nakama/v3";
const COMMON: &str = "github.com/heroiclabs/nakama-common";

/// In a Nakama, and in the stand-in, which has a newer nakama-common and counts how often a callback is invoked.
pub(crate) fn test_everywhere() -> Result<()> {
    for stand_in in [false, true] {
        let program = None;
        test(&Options { program, stand_in })?;
    }
    Ok(())
}

/// Runs all parts, each even if one before it has failed.
pub(crate) fn test(options: &Options) -> Result<()> {
    let host = host(options)?;
    let program = host.program();
    for folder in [MODULE, TESTS] {
        program.check(folder)?;
    }
    let modules = Modules {
        fleet: program.plugin(MODULE, ".", "bifrost")?,
        rpcs: program.plugin(TESTS, "./rpcs", "fleet-rpcs")?,
    };
    run(cargo(&["build", "--locked", "-p", "bifrost"]).args([
        "-p",
        "integration-tests",
        "--bin",
        "bifrost",
        "--bin",
        "nakama-check",
    ]))?;
    let refusal = host.refuses_to_start(&modules);
    let cases = check(&host, &modules, &mut checker("cases")).context("the bridge cases");
    let voice = Voice::start()?;
    let mut live = checker("live");
    live.args(["--gateway", voice.text("gateway")?]);
    live.args(["--certificate-file", voice.text("certificate_file")?]);
    live.env("ODIN_ACCESS_KEY", voice.text("access_key")?);
    let live = check(&host, &modules, &mut live).context("creates, matches and voice");
    refusal.and(cases).and(live)
}

fn host(options: &Options) -> Result<Host> {
    let host = match &options.program {
        _ if options.stand_in => {
            say("STAND-IN: this run shows nothing of Nakama itself");
            Host::StandIn(Program::build(TESTS, "./standin", "nakama-standin")?)
        }
        Some(path) => Host::Nakama(Program::existing(path)?),
        None => Host::Nakama(Program::build(SERVER, NAKAMA, "nakama")?),
    };
    let version = |module| host.program().version(module).unwrap_or("of a folder");
    let (nakama, common) = (version(NAKAMA), version(COMMON));
    if !options.stand_in {
        say(&format!("Nakama {nakama}, nakama-common {common}"));
    }
    Ok(host)
}

fn checker(part: &str) -> Command {
    let mut command = Command::new(target_dir().join("debug").join("nakama-check"));
    command.arg(part);
    command
}

/// Starts the check, then a Nakama on the bridge that it names, and lets it go on.
fn check(host: &Host, modules: &Modules, command: &mut Command) -> Result<()> {
    let mut checking = Checking::start(command)?;
    let first = checking.line()?.context("it ended by itself")?;
    let told: Value = serde_json::from_str(&first)?;
    let text = |name: &str| told[name].as_str().map(str::to_owned);
    let settings = Settings {
        bridge: text("bridge").context("no bridge")?,
        token: text("token").context("no token")?,
    };
    let running = host.start(modules, &settings)?;
    let place = json!({
        "nakama": running.address(),
        "http_key": server::HTTP_KEY,
        "players": running.players()?,
    });
    writeln!(checking.input, "{place}")?;
    while let Some(line) = checking.line()? {
        say(&line);
    }
    let status = checking.child.wait()?;
    ensure!(status.success(), "not all of it holds");
    Ok(())
}

/// The check, ended with the task.
struct Checking {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

impl Checking {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("nakama-check did not start")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("its input and output are pipes");
        };
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    fn line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line)?;
        Ok((read > 0).then(|| line.trim_end().to_owned()))
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
