//! A load generator for voice servers whose figures can be believed: clients with sockets of their own, packets that say
//! when they were sent, arrivals stamped by the kernel, and an account of every packet that was owed to somebody.
//!
//! What the generator itself costs is measured and told: see [`GeneratorFigures`].

mod account;
mod chart;
mod clock;
mod command;
mod course;
mod engine;
mod floor;
mod limit;
mod listener;
mod movement;
mod options;
mod packet;
mod pattern;
mod plan;
mod progress;
mod quality;
mod relay;
mod report;
mod run;
mod samples;
mod server;
mod session;
mod signalling;
mod socket;
mod table;
mod target;
mod trust;
mod usage;

pub use command::command;
pub use course::{Forwards, Sample};
pub use floor::relay as floor_relay;
pub use limit::{Bounds, Search};
pub use options::Options;
pub use plan::{PACKET_BYTES_MAX, PACKET_BYTES_MIN, PEERS_MAX, Pattern, Place, Plan, Transport};
pub use quality::{ENDS_MS, mos};
pub use relay::{Link, RelayFigures};
pub use report::{
    Figures, GeneratorFigures, LatencyFigures, ListenerFigures, MetricsFigures, Report,
    ServerFigures, Worst,
};
