//! The `mock-game-server` command.

use std::process::ExitCode;

use clap::Parser as _;
use mock_game_server::{Arguments, command};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    command(Arguments::parse()).await
}
