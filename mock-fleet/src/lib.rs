//! A faithful simulator of the ODIN Fleet API: every operation of 0.9.0, the response shapes of
//! 0.9.2 and the autoscaling operations of 0.9.5, from a world file, with faults on request.
//!
//! The simulated fleet ([`World`] in, answers out) has no clock, no IO and no lock of its own;
//! [`Server`] drives it over HTTP.

mod api;
mod clock;
mod config;
mod control;
mod faults;
mod fields;
mod filter;
mod handle;
mod limits;
mod listing;
mod model;
mod query;
mod refusal;
mod secret;
mod server;
mod state;
mod view;
pub mod world;

pub use self::clock::{Clock, ManualClock};
pub use self::config::{Arguments, Config, ConfigError};
pub use self::faults::{Chance, FaultKind, FaultPlan, FaultPlanError, FaultRule, Latency};
pub use self::handle::Handle;
pub use self::model::{
    ApiVersion, BinaryType, Mount, OperatingSystem, PackageType, PortDefinition, Protocol,
    RegistryType, RestartCondition, SteamRuntime, TextFile, VariableDefinition, VariableType,
};
pub use self::secret::Secret;
pub use self::server::{Server, ServerError, command};
pub use self::world::{World, WorldError};
