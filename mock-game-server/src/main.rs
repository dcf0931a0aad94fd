//! The `mock-game-server` command.

use std::{env, process::ExitCode};

#[tokio::main]
async fn main() -> ExitCode {
    mock_game_server::command(env::args_os()).await
}
