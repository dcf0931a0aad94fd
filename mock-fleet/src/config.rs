//! What a simulator needs to start: a plain struct for programs, and the command line that
//! becomes one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use service::LogFormat;

use crate::clock::Clock;
use crate::faults::{FaultPlan, FaultPlanError};
use crate::model::ApiVersion;
use crate::world::{World, WorldError};

/// Everything a server is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the API listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where the control API listens, if it should.
    pub control_listen: Option<SocketAddr>,
    /// Whether the control API may listen on an address that is not loopback.
    pub insecure: bool,
    /// What exists at the start.
    pub world: World,
    /// The version of the API to speak.
    pub api: ApiVersion,
    /// What goes wrong.
    pub faults: FaultPlan,
    /// Decides what is random: tokens, links, faults.
    pub seed: u64,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Config {
    /// A simulator on any free loopback port, without faults and without a control API.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            control_listen: None,
            insecure: false,
            world,
            api: ApiVersion::default(),
            faults: FaultPlan::default(),
            seed: 0,
            clock: Clock::System,
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A world that makes no sense.
    #[error(transparent)]
    World(#[from] WorldError),
    /// A fault plan that makes no sense.
    #[error(transparent)]
    Faults(#[from] FaultPlanError),
}

/// A simulator of the ODIN Fleet API.
#[derive(Debug, Parser)]
#[command(name = "mock-fleet", version)]
pub struct Arguments {
    /// Where the API listens.
    #[arg(long, default_value = "127.0.0.1:8085")]
    listen: SocketAddr,
    /// Where the control API listens.
    #[arg(long, default_value = "127.0.0.1:8086")]
    control: SocketAddr,
    /// The world file; without it, a built-in world.
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// A file of faults to inject.
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// The version of the API: 0.9.0, 0.9.2 or 0.9.5.
    #[arg(long, default_value = "0.9.0")]
    api: ApiVersion,
    /// Decides what is random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
    /// Read all files, say whether they are right, and exit.
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Let the control API listen on an address that is not loopback.
    #[arg(long)]
    insecure: bool,
}

impl Arguments {
    /// Reads the files that the arguments name.
    ///
    /// # Errors
    /// When a file cannot be read or is not right.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let world = match &self.world {
            Some(path) => World::from_toml(&read(path)?, &path.display().to_string())?,
            None => World::default_world(),
        };
        let faults = match &self.faults {
            Some(path) => FaultPlan::from_toml(&read(path)?, &path.display().to_string())?,
            None => FaultPlan::default(),
        };
        Ok(Config {
            listen: self.listen,
            control_listen: Some(self.control),
            insecure: self.insecure,
            world,
            api: self.api,
            faults,
            seed: self.seed,
            clock: Clock::System,
        })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })
}
