//! The `fleet-bridge` command.

use std::process::ExitCode;

use clap::Parser as _;
use fleet_bridge::{Arguments, command};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    command(Arguments::parse()).await
}
