//! The voice server: a selective forwarding unit that real ODIN clients talk through, configured like the ODIN server.

mod config;
mod license;
pub mod load;
pub mod metrics;
pub mod supervisor;
pub mod telemetry;

pub use config::{
    Authorization, Config, Http, Internal, Limit, Log, MessageRate, Metrics, PacketRate, Quic,
    Supervisor, Telemetry, TelemetryField, Tls, sample,
};
pub use license::{
    License, LicenseError, LicenseLimits, Terms, ValidUntil, ValidUntilError, license_authority,
};
