//! The `mock-fleet` command.

use std::{env, process::ExitCode};

#[tokio::main]
async fn main() -> ExitCode {
    match service::arguments(env::args_os()) {
        Ok(arguments) => mock_fleet::command(arguments).await,
        Err(code) => code,
    }
}
