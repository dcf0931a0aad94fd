//! Holds the modules of `integrations/nakama` against a bridge, through the Nakama that runs them. Prints the bridge's
//! address, reads where Nakama is, and prints a line for each case. Driven by `cargo xtask nakama`.

#![expect(clippy::print_stdout, reason = "its output is read by the task")]

mod contract;
mod live;
mod report;
mod voice;
mod world;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
enum What {
    /// The cases of cases/bridge-cases.json, on a scripted Fleet
    Cases,
    /// Creates, matches and voice, on a simulated Fleet with game servers
    Live(world::Options),
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let report = match What::parse() {
        What::Cases => contract::run().await?,
        What::Live(options) => live::run(options).await?,
    };
    Ok(report.end())
}
