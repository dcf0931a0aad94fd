//! The voice server: a selective forwarding unit that real ODIN clients talk through, configured like the ODIN server.

mod config;

pub use config::{
    Authorization, Config, Http, Internal, Limit, Log, MessageRate, Metrics, PacketRate, Quic,
    Supervisor, Telemetry, TelemetryField, Tls, sample,
};
