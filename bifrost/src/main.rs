//! The `bifrost` command.

mod demo;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Game servers and voice for studios on ODIN.
#[derive(Parser)]
#[command(name = "bifrost", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole fleet on this machine and play a matchmaker's part on it
    Demo(demo::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(EnvFilter::from_default_env())
        .init();
    let Command::Demo(options) = Arguments::parse().command;
    match demo::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            demo::say_failure(&error);
            ExitCode::FAILURE
        }
    }
}
