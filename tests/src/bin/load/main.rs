//! Drives a running bridge and the simulated Fleet behind it: `cargo xtask bench bridge` and `cargo xtask soak`.

#![expect(clippy::print_stdout, reason = "a report is what this program is for")]

mod bench;
mod soak;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// List and Get through the bridge beside the same calls made directly
    Bench(Target),
    /// Load while the Fleet fails 30 % of its calls
    Soak {
        #[command(flatten)]
        target: Target,
        /// Seconds under load
        #[arg(long)]
        seconds: u64,
        /// Process id of the bridge, for its memory
        #[arg(long)]
        bridge_pid: u32,
    },
}

/// What is driven.
#[derive(Args, Clone, Debug)]
struct Target {
    /// Base URL of the simulated Fleet API
    #[arg(long)]
    fleet: String,
    /// Address of the simulator's controls
    #[arg(long)]
    control: String,
    /// Address of the bridge
    #[arg(long)]
    bridge: String,
    /// Token of the Fleet API
    #[arg(long)]
    token: String,
    /// Id of the app
    #[arg(long)]
    app: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Bench(target) => bench::run(&target).await,
        Task::Soak {
            target,
            seconds,
            bridge_pid,
        } => soak::run(&target, seconds, bridge_pid).await,
    }
}
