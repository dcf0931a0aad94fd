//! The voice server: a selective forwarding unit that real ODIN clients talk through, configured like the ODIN server.

mod auth;
mod certificate;
mod command;
mod config;
mod control;
mod fleet;
#[cfg(fuzzing)]
pub mod fuzzing;
mod license;
mod load;
mod log;
mod metrics;
mod server;
mod shard;
mod signalling;
mod supervisor;
mod telemetry;
mod web_listener;

pub use certificate::{SelfSigned, SelfSignedError};
pub use command::{Arguments, command};
pub use config::{
    Authorization, Config, Fleet, Http, Internal, Limit, Log, MessageRate, Metrics, PacketRate,
    Quic, Supervisor, Telemetry, TelemetryField, Tls, sample,
};
pub use fleet::{FleetError, Place};
pub use license::{
    License, LicenseError, LicenseLimits, Terms, ValidUntil, ValidUntilError, license_authority,
};
pub use server::{Ended, Server, ServerError, settle};
pub use supervisor::{CallError, SupervisorError};
